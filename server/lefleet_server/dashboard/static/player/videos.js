// The cameras' preview videos, played together. Their times are those of the ticks, so the first one is the clock.

const APART_S = 0.1; // two cameras further apart than this are brought together

export class Videos {
  constructor(urls) {
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
  }

  /** False once one of them cannot be played: the pictures are used then. */
  get usable() {
    return !this.failed;
  }

  /** Keeps the playing clock and the videos at the same place; false while one of them waits for bytes. */
  follow(clock) {
    if (!this.running || clock.seconds !== this.seconds) for (const video of this.elements) video.currentTime = clock.seconds;
    this.running = true;
    const ready = this.elements.every((video) => !video.seeking && video.readyState >= 3);
    for (const video of this.elements) this.drive(video, clock.rate, ready);
    const [first, ...others] = this.elements;
    if (ready) {
      clock.seek(first.currentTime);
      for (const video of others) if (Math.abs(video.currentTime - first.currentTime) > APART_S) video.currentTime = first.currentTime;
      if (first.ended || first.currentTime >= clock.end) this.end(clock);
    }
    this.seconds = clock.seconds;
    return ready;
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
