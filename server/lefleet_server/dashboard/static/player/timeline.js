// Events on the time line: a lane for each kind above the slider, and a legend that leads to the next one of a kind.

import { KINDS } from "./events.js";
import { timeText } from "./transport.js";

const make = (tag, className, more = {}) => Object.assign(document.createElement(tag), { className, ...more });

export class Timeline {
  /** `lanes`: where the marks go, as wide as the slider's way; `host`: where the legend goes. */
  constructor(lanes, host, clock, events) {
    this.clock = clock;
    this.events = events;
    this.kinds = Object.keys(KINDS).filter((kind) => events.some((event) => event.kind === kind));
    for (const kind of this.kinds) lanes.append(this.buildLane(kind));
    this.legend = make("div", "lf-legend");
    this.chips = this.kinds.map((kind) => this.buildChip(kind));
    this.now = make("span", "lf-events-now");
    this.now.textContent = "No events: nobody took over, nothing was held, limited, late or missing.";
    this.legend.append(...this.chips, this.now);
    host.append(this.legend);
  }

  of(kind) {
    return this.events.filter((event) => event.kind === kind);
  }

  buildLane(kind) {
    const last = Math.max(this.clock.times.length - 1, 1);
    const lane = make("div", "lf-lane");
    lane.dataset.kind = kind;
    for (const event of this.of(kind)) {
      const mark = make("i", "", { title: this.describe(event) });
      mark.style.left = `${(100 * event.first) / last}%`;
      mark.style.width = `${(100 * (event.last - event.first)) / last}%`;
      mark.addEventListener("click", () => this.seek(event));
      lane.append(mark);
    }
    return lane;
  }

  buildChip(kind) {
    const chip = make("button", "lf-event-chip", { type: "button", title: "Go to the next one" });
    chip.dataset.kind = kind;
    chip.append(make("i", ""), KINDS[kind], make("b", "", { textContent: String(this.of(kind).length) }));
    chip.addEventListener("click", () => this.go(1, this.of(kind)));
    return chip;
  }

  describe({ first, last, text }) {
    const [from, to] = [first, last].map((tick) => timeText(this.clock.times[tick]));
    return from === to ? `${text} · ${from}` : `${text} · ${from} to ${to}`;
  }

  /** To the beginning of the next (1) or the previous (-1) event, and around the end. */
  go(way, events = this.events) {
    if (!events.length) return;
    const { tick } = this.clock;
    const next = way > 0 ? (events.find(({ first }) => first > tick) ?? events[0]) : (events.findLast(({ first }) => first < tick) ?? events.at(-1));
    this.seek(next);
  }

  seek(event) {
    this.clock.pause();
    this.clock.seekTick(event.first);
  }

  show(tick) {
    if (tick === this.tick || !this.events.length) return;
    this.tick = tick;
    const here = this.events.filter(({ first, last }) => first <= tick && tick <= last);
    this.now.textContent = here.map((event) => this.describe(event)).join("; ");
    for (const chip of this.chips) chip.classList.toggle("is-now", here.some(({ kind }) => kind === chip.dataset.kind));
  }
}
