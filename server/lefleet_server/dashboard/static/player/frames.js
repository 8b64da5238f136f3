// Fetches an episode's pictures ahead of the place being watched, each one once, and keeps decoded those nearby.

const PARALLEL = 4; // a browser opens 6 connections to one HTTP/1.1 host; the page's other requests need some
export const AHEAD = 300; // ticks: ten seconds at 30 Hz, so that opening an episode does not cost the server all of it
const BEHIND = 30;
const DECODED_AHEAD = 20; // pictures per camera
const KEPT_BYTES = 256 * 1024 * 1024; // compressed
const TRIES = 3;

/** For each tick the first tick that saw the same picture: cameras may be slower than control. */
export function firstTicks(seqs, ticks) {
  const first = new Uint32Array(ticks);
  for (let i = 0; i < ticks; i++) first[i] = i > 0 && seqs && seqs[i] === seqs[i - 1] ? first[i - 1] : i;
  return first;
}

class Track {
  constructor(camera, seqs, ticks) {
    this.camera = camera;
    this.first = firstTicks(seqs, ticks);
    this.unique = [...new Set(this.first)];
    this.blobs = new Map(); // first tick -> Blob
    this.bitmaps = new Map(); // first tick -> ImageBitmap | Promise
    this.tries = new Map();
  }
}

export class Frames {
  /** `url(camera, tick)` names a picture; `signals.image_seq[camera]` says which ticks share one. */
  constructor(cameras, seqs, ticks, url, changed) {
    this.tracks = cameras.map((camera) => new Track(camera, seqs?.[camera], ticks));
    this.ticks = ticks;
    this.url = url;
    this.changed = changed;
    this.place = 0;
    this.flying = 0;
    this.bytes = 0;
    this.missing = 0;
    this.closed = false;
    this.ahead = AHEAD;
  }

  /** The decoded pictures of all cameras at `tick`, or null while one of them is on its way. */
  at(tick) {
    const pictures = this.tracks.map((track) => track.bitmaps.get(track.first[tick]));
    return pictures.every((picture) => picture !== undefined && !(picture instanceof Promise)) ? pictures : null;
  }

  /** Says where the viewer is; what lies ahead (`ahead` ticks) is fetched and decoded first. */
  move(tick) {
    this.place = tick;
    for (const track of this.tracks) this.decodeAround(track);
    while (this.flying < PARALLEL && this.fetchNext());
  }

  /** The last tick up to which every picture from the place on is here. */
  get reached() {
    return Math.min(...this.tracks.map((track) => {
      const from = track.unique.findIndex((first) => first >= track.first[this.place]);
      const gap = track.unique.findIndex((first, i) => i >= from && !track.blobs.has(first));
      return gap < 0 ? this.ticks - 1 : Math.max(track.unique[gap] - 1, 0);
    }));
  }

  close() {
    this.closed = true;
    for (const track of this.tracks) for (const key of [...track.bitmaps.keys()]) this.forget(track, key);
  }

  fetchNext() {
    if (this.closed || this.bytes > KEPT_BYTES) return false;
    const next = this.tracks.map((track) => this.wanted(track)).filter(Boolean).sort((a, b) => a.distance - b.distance)[0];
    if (!next) return false;
    this.fetchPicture(next.track, next.first);
    return true;
  }

  wanted(track) {
    const here = track.first[this.place];
    const free = (first) => !track.blobs.has(first) && (track.tries.get(first) ?? 0) < TRIES;
    const ahead = track.unique.find((first) => first >= here && first < here + this.ahead && free(first));
    if (ahead !== undefined) return { track, first: ahead, distance: ahead - here };
    const behind = track.unique.findLast((first) => first < here && first >= here - BEHIND && free(first));
    return behind === undefined ? null : { track, first: behind, distance: this.ticks + here - behind };
  }

  async fetchPicture(track, first) {
    const tries = (track.tries.get(first) ?? 0) + 1;
    track.tries.set(first, TRIES); // in flight: nobody else takes it
    this.flying += 1;
    try {
      const response = await fetch(this.url(track.camera, first));
      if (!response.ok) throw new TypeError(`HTTP ${response.status}`);
      const blob = await response.blob();
      track.blobs.set(first, blob);
      this.bytes += blob.size;
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      if (tries < TRIES) setTimeout(() => (track.tries.set(first, tries), this.move(this.place)), 400 * tries);
      else this.lose(track, first);
    } finally {
      this.flying -= 1;
      if (!this.closed) this.move(this.place);
    }
  }

  /** A picture that cannot be had is shown as none; playing goes on. */
  lose(track, first) {
    this.missing += 1;
    track.blobs.set(first, null);
    track.bitmaps.set(first, null);
    this.changed();
  }

  decodeAround(track) {
    const here = track.unique.indexOf(track.first[this.place]);
    const near = new Set(track.unique.slice(Math.max(here - 4, 0), here + DECODED_AHEAD));
    for (const key of [...track.bitmaps.keys()]) if (!near.has(key)) this.forget(track, key);
    for (const first of near) if (track.blobs.has(first) && !track.bitmaps.has(first)) this.decode(track, first);
  }

  async decode(track, first) {
    const blob = track.blobs.get(first);
    if (blob === null) return track.bitmaps.set(first, null);
    const promise = createImageBitmap(blob);
    track.bitmaps.set(first, promise);
    const bitmap = await promise;
    if (this.closed || track.bitmaps.get(first) !== promise) return bitmap.close();
    track.bitmaps.set(first, bitmap);
    this.changed();
  }

  forget(track, first) {
    const picture = track.bitmaps.get(first);
    track.bitmaps.delete(first);
    if (picture instanceof ImageBitmap) picture.close();
  }
}
