// <lf-time datetime="ISO 8601" look="ago|short|long">: an instant in the viewer's zone and language.
// <lf-dated>: writes the day of each option[data-at] in it behind the option's text, in the viewer's zone.
// <lf-day>: tells the server when the viewer's day began (event "day", detail: milliseconds since the epoch).

// Robots' and servers' clocks are compared with the server's, not with a phone whose clock is wrong.
const serverNow = Number(document.querySelector("meta[name=lefleet-now]")?.content);
const skew = serverNow && Math.abs(serverNow - Date.now()) > 5000 ? serverNow - Date.now() : 0;
export const now = () => Date.now() + skew;

const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "numeric", minute: "2-digit" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
const relative = new Intl.RelativeTimeFormat("en", { numeric: "always", style: "short" });

const steps = [[86400, "day"], [3600, "hour"], [60, "minute"]];

export function ago(ms) {
  const seconds = Math.max(0, Math.round((now() - ms) / 1000));
  if (seconds < 1) return "just now";
  if (seconds < 60) return `${seconds} s ago`;
  const [size, unit] = steps.find(([size]) => seconds >= size);
  return relative.format(-Math.floor(seconds / size), unit);
}

function short(ms) {
  const date = new Date(ms);
  return date.toDateString() === new Date(now()).toDateString() ? `Today, ${clock.format(date)}` : day.format(date);
}

const looks = { ago, short, long: (ms) => full.format(ms) };

class Time extends HTMLElement {
  static observedAttributes = ["datetime", "look"];
  connectedCallback() {
    this.timer = setInterval(() => this.show(), this.getAttribute("look") === "ago" ? 1000 : 60000);
    this.show();
  }
  disconnectedCallback() {
    clearInterval(this.timer);
  }
  attributeChangedCallback() {
    if (this.isConnected) this.show();
  }
  show() {
    const ms = Date.parse(this.getAttribute("datetime"));
    const text = Number.isNaN(ms) ? "never" : looks[this.getAttribute("look") ?? "short"](ms);
    if (text === this.textContent) return;
    this.textContent = text;
    this.title = Number.isNaN(ms) ? "" : full.format(ms);
  }
}
customElements.define("lf-time", Time);

const date = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });

class Dated extends HTMLElement {
  connectedCallback() {
    this.observer = new MutationObserver(() => this.show());
    this.observer.observe(this, { childList: true, subtree: true });
    this.show();
  }
  disconnectedCallback() {
    this.observer.disconnect();
  }
  show() {
    for (const option of this.querySelectorAll("option[data-at]:not([label])"))
      option.label = `${option.textContent}, last ${date.format(Date.parse(option.dataset.at))}`;
  }
}
customElements.define("lf-dated", Dated);

class Day extends HTMLElement {
  connectedCallback() {
    this.timer = setInterval(() => this.tell(), 30000);
    this.tell();
  }
  disconnectedCallback() {
    clearInterval(this.timer);
  }
  tell() {
    const began = new Date(now()).setHours(0, 0, 0, 0);
    if (began === this.began) return;
    this.began = began;
    this.dispatchEvent(new CustomEvent("day", { detail: began }));
  }
}
customElements.define("lf-day", Day);
