// What every page shares: theme switch, log-out, copy buttons, keyboard shortcuts, times in the viewer's zone, live pictures.

import "./camera.js";
import "./keys.js";
import "./time.js";
import "./when.js";

function switchTheme() {
  const root = document.documentElement;
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  document.cookie = `lefleet_theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=lax`;
  window.Quasar?.Dark.set(root.dataset.theme === "dark");
  document.dispatchEvent(new CustomEvent("lefleet:theme"));
}

async function logOut() {
  await fetch("/api/v1/logout", { method: "POST" });
  location.assign("/login");
}

async function copy(button) {
  // Browsers give pages without TLS no clipboard; what a person marks they may copy all the same.
  if (navigator.clipboard) await navigator.clipboard.writeText(button.dataset.copy);
  else copyMarked(button.dataset.copy);
  button.dataset.copied = "";
  setTimeout(() => delete button.dataset.copied, 1500);
}

function copyMarked(text) {
  const field = Object.assign(document.createElement("textarea"), { value: text });
  (document.querySelector(".q-dialog") ?? document.body).append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}

// <lf-sections>: on a phone the navigation scrolls, and the section that is open is in sight.
class Sections extends HTMLElement {
  connectedCallback() {
    requestAnimationFrame(() => {
      const open = this.querySelector("[aria-current]");
      if (open) this.scrollLeft = open.offsetLeft - this.offsetLeft - (this.clientWidth - open.offsetWidth) / 2;
    });
  }
}
customElements.define("lf-sections", Sections);

// <lf-theme>: tells the server of a switch (event "theme", detail: whether to dark).
class Theme extends HTMLElement {
  connectedCallback() {
    this.tell = () => this.dispatchEvent(new CustomEvent("theme", { detail: document.documentElement.dataset.theme === "dark" }));
    document.addEventListener("lefleet:theme", this.tell);
  }
  disconnectedCallback() {
    document.removeEventListener("lefleet:theme", this.tell);
  }
}
customElements.define("lf-theme", Theme);

document.addEventListener("click", (event) => {
  const target = event.target.closest("[data-theme-switch], [data-log-out], [data-copy]");
  if (!target) return;
  if (target.hasAttribute("data-theme-switch")) switchTheme();
  else if (target.hasAttribute("data-log-out")) logOut();
  else copy(target);
});
