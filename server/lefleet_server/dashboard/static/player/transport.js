// The bar under the pictures: play, steps, scrubbing, speed, time; and the keyboard.

const SPEEDS = [0.25, 0.5, 1, 2, 4];
const ICONS = {
  play: '<path d="M8 5.5v13l11-6.5z" fill="currentColor"/>',
  pause: '<path d="M9 6v12M15 6v12" stroke-width="3"/>',
  back: '<path d="M18 6l-9 6 9 6zM6 6v12"/>',
  on: '<path d="M6 6l9 6-9 6zM18 6v12"/>',
};
const svg = (name) => `<span class="lf-icon"><svg viewBox="0 0 24 24">${ICONS[name]}</svg></span>`;

/** For the list of keys (keys.js); what they do is in `key`. */
export const KEYS = [
  [" ", "Play or pause"],
  ["← →", "One tick back or on"],
  ["⇧← ⇧→", "One second back or on"],
  ["Home End", "To the beginning or the end"],
  ["[ ]", "Slower or faster"],
  [", .", "To the event before or the next one"],
  ["g", "Another ghost beside the arm: sent, requested, none"],
];

export function timeText(seconds) {
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${(seconds - minutes * 60).toFixed(2).padStart(5, "0")}`;
}

export class Transport {
  /** `timeline` and `replay` (timeline.js, replay.js) are put in by the player: they have keys here too. */
  constructor(host, clock) {
    this.clock = clock;
    this.ticks = clock.times.length;
    this.bar = Object.assign(document.createElement("div"), { className: "lf-player-bar" });
    this.bar.innerHTML =
      `<button class="lf-icon-button is-play" type="button"></button>` +
      `<button class="lf-icon-button is-quiet" type="button" data-step="-1" aria-label="Previous tick" title="Previous tick (←)">${svg("back")}</button>` +
      `<button class="lf-icon-button is-quiet" type="button" data-step="1" aria-label="Next tick" title="Next tick (→)">${svg("on")}</button>` +
      `<div class="lf-player-time"></div>` +
      `<div class="lf-player-track"><div class="lf-player-lanes"></div>` +
      `<input type="range" min="0" max="${this.ticks - 1}" step="1" value="0" aria-label="Place in the episode"></div>` +
      `<div class="lf-player-tick"></div>` +
      `<select class="lf-select lf-player-speed" aria-label="Speed" title="Speed ([ and ])">` +
      SPEEDS.map((speed) => `<option value="${speed}"${speed === 1 ? " selected" : ""}>${speed}×</option>`).join("") +
      `</select>`;
    host.append(this.bar);
    this.button = this.bar.querySelector(".is-play");
    this.time = this.bar.querySelector(".lf-player-time");
    this.count = this.bar.querySelector(".lf-player-tick");
    this.lanes = this.bar.querySelector(".lf-player-lanes");
    this.slider = this.bar.querySelector("input");
    this.speed = this.bar.querySelector("select");
    this.button.addEventListener("click", () => this.toggle());
    for (const step of this.bar.querySelectorAll("[data-step]")) step.addEventListener("click", () => this.step(Number(step.dataset.step)));
    this.slider.addEventListener("input", () => this.clock.seekTick(Number(this.slider.value)));
    this.speed.addEventListener("change", () => (this.clock.rate = Number(this.speed.value)));
  }

  toggle() {
    if (this.clock.playing) this.clock.pause();
    else this.clock.play();
  }

  step(ticks) {
    this.clock.pause();
    this.clock.seekTick(this.clock.tick + ticks);
  }

  faster(places) {
    const at = SPEEDS.indexOf(this.clock.rate) + places;
    this.clock.rate = SPEEDS[Math.min(Math.max(at, 0), SPEEDS.length - 1)];
    this.speed.value = String(this.clock.rate);
  }

  key(event) {
    const typing = event.target.closest("input:not([type=range]), textarea, select, [contenteditable]");
    const pressing = event.key === " " && event.target.closest("button, a");
    const elsewhere = document.querySelector("dialog[open]");
    if (typing || pressing || elsewhere || event.ctrlKey || event.metaKey || event.altKey) return;
    const jump = (seconds) => this.clock.seek(this.clock.seconds + seconds);
    const keys = {
      " ": () => this.toggle(),
      ArrowLeft: () => (event.shiftKey ? jump(-1) : this.step(-1)),
      ArrowRight: () => (event.shiftKey ? jump(1) : this.step(1)),
      Home: () => this.clock.seek(0),
      End: () => this.clock.seek(this.clock.end),
      "[": () => this.faster(-1),
      "]": () => this.faster(1),
      ",": () => this.timeline.go(-1),
      ".": () => this.timeline.go(1),
      g: () => this.replay.another(),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  }

  show(frames) {
    const { tick, seconds, playing, end } = this.clock;
    if (playing !== this.playing) this.showButton(playing);
    const reached = (this.looked ?? 0) + 200 < performance.now() ? this.look(frames) : this.reached;
    if (tick === this.tick && reached === this.drawn) return;
    this.drawn = reached;
    this.tick = tick;
    const last = Math.max(this.ticks - 1, 1);
    this.slider.value = String(tick);
    this.slider.style.setProperty("--at", `${(100 * tick) / last}%`);
    this.slider.style.setProperty("--got", `${(100 * Math.max(reached, tick)) / last}%`);
    this.slider.setAttribute("aria-valuetext", `${seconds.toFixed(2)} seconds`);
    this.time.innerHTML = `${timeText(seconds)} <span>/ ${timeText(end)}</span>`;
    this.count.textContent = `tick ${tick + 1} of ${this.ticks}`;
  }

  look(frames) {
    this.looked = performance.now();
    return (this.reached = frames.reached);
  }

  showButton(playing) {
    this.playing = playing;
    this.button.innerHTML = svg(playing ? "pause" : "play");
    this.button.setAttribute("aria-label", playing ? "Pause" : "Play");
    this.button.title = playing ? "Pause (space)" : "Play (space)";
  }
}
