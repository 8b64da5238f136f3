// <lf-camera src name>: the latest picture of one camera, about once a second, without flicker. No src: none has come.
// A picture is drawn only when it is complete and differs from the last; nothing is fetched while it is out of sight.

const EVERY_MS = 1000;
const STALE_AFTER = 5; // failed fetches in a row

class Camera extends HTMLElement {
  connectedCallback() {
    if (!this.canvas) this.build();
    this.observer = new IntersectionObserver((entries) => (this.inSight = entries.at(-1).isIntersecting), { rootMargin: "200px" });
    this.observer.observe(this);
    this.timer = setInterval(() => this.poll(), EVERY_MS);
    requestAnimationFrame(() => this.poll(true));
  }

  disconnectedCallback() {
    this.observer.disconnect();
    clearInterval(this.timer);
  }

  build() {
    this.dataset.state = "waiting";
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `Latest picture of camera ${this.getAttribute("name")}`);
    const note = Object.assign(document.createElement("div"), { className: "lf-camera-note", textContent: "No picture yet" });
    const name = Object.assign(document.createElement("div"), { className: "lf-camera-name", textContent: this.getAttribute("name") });
    this.append(this.canvas, note, name);
    this.failures = 0;
    this.dataset.pictures = "0";
  }

  async poll(first = false) {
    if (!this.hasAttribute("src") || this.busy || document.hidden || (!this.inSight && !first)) return;
    this.busy = true;
    try {
      await this.fetchPicture();
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // fetch says TypeError when the server is away: try again
      this.missed();
    } finally {
      this.busy = false;
    }
  }

  async fetchPicture() {
    // no-cache: the browser asks with If-None-Match, and an unchanged picture costs no bytes.
    const response = await fetch(this.getAttribute("src"), { cache: "no-cache" });
    if (response.status !== 200) return this.missed();
    const tag = response.headers.get("etag") ?? response.headers.get("last-modified");
    this.failures = 0;
    if (tag && tag === this.tag) return;
    const picture = await createImageBitmap(await response.blob());
    this.tag = tag;
    if (this.canvas.width !== picture.width) this.canvas.width = picture.width;
    if (this.canvas.height !== picture.height) this.canvas.height = picture.height;
    this.canvas.getContext("2d").drawImage(picture, 0, 0);
    picture.close();
    this.dataset.state = "live";
    this.dataset.pictures = String(Number(this.dataset.pictures) + 1);
  }

  missed() {
    this.failures += 1;
    if (this.dataset.state === "live" && this.failures >= STALE_AFTER) this.dataset.state = "stale";
  }
}
customElements.define("lf-camera", Camera);
