// The cameras' preview videos, played together. Their times are those of the ticks, so the first one is the clock: by the
// picture that it shows, where the browser tells which one that is. The others are held beside it.

import { tickAt } from "./clock.js";

const FAR_S = 0.25; // what is further apart is brought together by a seek: playing faster or slower would take too long
const CATCH_UP_S = 0.5; // in which a video that is nearer comes back to the first one
const MOST = 0.2; // of its speed, faster or slower: more is seen
const STEP = 0.05; // of its speed: few changes
const SAME_S = 0.001; // a video's times are rounded

/** Where the clock belongs while a video is at `seconds` and shows the picture of `shown` (null: not known). Pure.
 *  `pictures`: when each of them came, ascending. No plot is ahead of the picture on the screen, nor behind it. */
export function placeOf(seconds, shown, pictures) {
  if (shown === null) return seconds;
  const next = pictures[tickAt(pictures, shown + SAME_S) + 1] ?? Infinity;
  const place = Math.min(Math.max(seconds, shown + SAME_S), next - SAME_S);
  return Math.abs(place - seconds) < FAR_S ? place : seconds; // a browser tells nothing of a video out of sight
}

/** At which speed a video plays that is `behind` by so many seconds (negative: ahead). Pure. */
export function speedOf(rate, behind, period) {
  if (Math.abs(behind) < period / 2) return rate;
  const change = Math.round(behind / CATCH_UP_S / STEP) * STEP;
  return rate * (1 + Math.min(Math.max(change, -MOST), MOST));
}

export class Videos {
  /** `times`: those of the ticks, `pictures`: those of them at which the first camera had a new picture. */
  constructor(urls, times, pictures) {
    this.period = times.at(-1) / (times.length - 1) || FAR_S;
    this.pictures = pictures;
    this.shown = null; // the time of the first one's picture on the screen
    this.failed = false;
    this.running = false;
    this.seconds = null; // where we left the clock: elsewhere now, the viewer went there
    this.elements = urls.map((url) => {
      const video = Object.assign(document.createElement("video"), { muted: true, playsInline: true, preload: "auto", src: url });
      video.setAttribute("aria-hidden", "true"); // the canvas below has the name
      video.tabIndex = -1;
      video.addEventListener("error", () => (this.failed = true));
      return video;
    });
    this.watch(this.elements[0]);
  }

  watch(video) {
    video.requestVideoFrameCallback?.((_, { mediaTime }) => {
      this.shown = mediaTime;
      this.watch(video);
    });
  }

  /** False once one of them cannot be played: the pictures are used then. */
  get usable() {
    return !this.failed;
  }

  /** Keeps the playing clock and the videos at the same place; false while one of them waits for bytes. */
  follow(clock) {
    if (!this.running || clock.seconds !== this.seconds) this.seek(clock.seconds);
    this.running = true;
    const ready = this.elements.every((video) => !video.seeking && video.readyState >= 3);
    const [first, ...others] = this.elements;
    this.drive(first, clock.rate, ready);
    for (const video of others) this.drive(video, speedOf(clock.rate, first.currentTime - video.currentTime, this.period), ready);
    if (ready) {
      clock.seek(placeOf(first.currentTime, this.shown, this.pictures));
      for (const video of others) if (!video.ended && Math.abs(video.currentTime - first.currentTime) > FAR_S) video.currentTime = first.currentTime;
      if (first.ended || first.currentTime >= clock.end) this.end(clock);
    }
    this.seconds = clock.seconds;
    return ready;
  }

  seek(seconds) {
    this.shown = null;
    for (const video of this.elements) video.currentTime = seconds;
  }

  pause() {
    if (!this.running) return;
    this.running = false;
    for (const video of this.elements) video.pause();
  }

  close() {
    for (const video of this.elements) {
      video.pause();
      video.removeAttribute("src");
      video.load(); // gives the connection back
    }
  }

  end(clock) {
    clock.seek(clock.end);
    clock.pause();
  }

  drive(video, rate, ready) {
    if (video.playbackRate !== rate) video.playbackRate = rate;
    if (!ready) return video.pause();
    if (video.paused && !video.ended) {
      video.play().catch((error) => {
        if (error.name !== "AbortError") this.failed = true; // AbortError: paused again before it began
      });
    }
  }
}
