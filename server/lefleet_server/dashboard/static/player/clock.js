// Playback time over an episode's own tick times: pure, so that pictures and plots share one truth.

/** Index of the last tick at or before `seconds`. `times` ascends and starts at 0. */
export function tickAt(times, seconds) {
  let low = 0;
  let high = times.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (times[middle] <= seconds) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** The place in the episode, in seconds; advances by the wall clock times `rate` while playing. */
export class Clock {
  constructor(times) {
    this.times = times;
    this.seconds = 0;
    this.rate = 1;
    this.playing = false;
    this.last = null;
  }

  get end() {
    return this.times.at(-1);
  }

  get tick() {
    return tickAt(this.times, this.seconds);
  }

  seek(seconds) {
    this.seconds = Math.min(Math.max(seconds, 0), this.end);
  }

  seekTick(tick) {
    this.seek(this.times[Math.min(Math.max(tick, 0), this.times.length - 1)]);
  }

  play() {
    if (this.seconds >= this.end) this.seconds = 0;
    this.playing = true;
    this.last = null;
  }

  pause() {
    this.playing = false;
  }

  /** Moves on to the frame time `ms`; `held` keeps the place (pictures are still on their way). */
  advance(ms, held) {
    const passed = this.last === null ? 0 : (ms - this.last) / 1000;
    this.last = ms;
    if (!this.playing || held) return;
    this.seek(this.seconds + Math.min(passed, 0.25) * this.rate); // a hidden tab gets no frames: do not leap after it
    if (this.seconds >= this.end) this.playing = false;
  }
}
