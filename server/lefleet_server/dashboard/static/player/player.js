// <lf-player signals frames robot-type [told] [kinematics] [videos]>: an episode's cameras playing in step with plots of its joints.
// `signals` is the address of the columns, `frames` the address of the pictures, with {camera} and {tick} in it,
// `told` JSON of what the server knows of the robot during the episode (events.js),
// `kinematics` JSON of the arm (so101_pose.py), missing for a robot that is drawn by none,
// `videos` JSON of {camera: address}: while it plays they are shown (data-by="video"), else the tick's own pictures.
// data-state says loading | paused | playing | buffering | error, data-tick the tick on show: tests and CSS read both.

import { shortcut } from "../keys.js";
import { Clock } from "./clock.js";
import { findEvents, inOrder, placeTold } from "./events.js";
import { AHEAD, Frames } from "./frames.js";
import { Plots } from "./plots.js";
import { Replay } from "./replay.js";
import { readSignals } from "./signals.js";
import { Timeline } from "./timeline.js";
import { KEYS, Transport } from "./transport.js";
import { Videos } from "./videos.js";

for (const [key, what] of KEYS) shortcut(key, what);

const AHEAD_OF_VIDEO = 20; // ticks whose pictures are fetched beside a video: where the viewer may stop next

class Player extends HTMLElement {
  connectedCallback() {
    this.dataset.state = "loading";
    this.tabIndex = -1;
    this.start().catch((error) => {
      this.fail(error.message);
      if (!(error instanceof TypeError)) throw error; // TypeError: the server is away, and fail() said so
    });
  }

  disconnectedCallback() {
    cancelAnimationFrame(this.request);
    document.removeEventListener("keydown", this.onKey);
    this.videos?.close();
    this.frames?.close();
    this.replay?.close();
    this.plots?.close();
  }

  async start() {
    const response = await fetch(this.getAttribute("signals"));
    if (!response.ok) throw new TypeError(`The server answered ${response.status}. Reload the page; if it stays so, look at the server's log.`);
    this.signals = readSignals(await response.json());
    if (!this.signals.times.length) throw new TypeError("This episode has no ticks: it ended before the first one.");
    if (this.isConnected) this.build();
  }

  build() {
    const { times, joints, cameras, seqs } = this.signals;
    this.clock = new Clock(times);
    this.buildPictures(cameras);
    this.transport = new Transport(this, this.clock);
    const told = placeTold(times, JSON.parse(this.getAttribute("told") ?? "[]"));
    const events = inOrder([...findEvents(this.signals), ...told]);
    this.timeline = this.transport.timeline = new Timeline(this.transport.lanes, this, this.clock, events);
    this.buildMotion(times, joints);
    const address = this.getAttribute("frames");
    const url = (camera, tick) => address.replace("{camera}", encodeURIComponent(camera)).replace("{tick}", tick);
    this.frames = new Frames(cameras, seqs, times.length, url, () => (this.stale = true));
    if (this.hasAttribute("videos") && cameras.length) this.buildVideos(cameras, times);
    this.onKey = (event) => this.transport.key(event);
    document.addEventListener("keydown", this.onKey);
    this.stale = true;
    this.frames.move(0);
    this.request = requestAnimationFrame((ms) => this.turn(ms));
  }

  buildPictures(cameras) {
    const row = Object.assign(document.createElement("div"), { className: "lf-player-pictures" });
    this.canvases = cameras.map((camera) => {
      const cell = Object.assign(document.createElement("div"), { className: "lf-player-picture" });
      const canvas = document.createElement("canvas");
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `Camera ${camera}`);
      canvas.dataset.camera = camera;
      const name = Object.assign(document.createElement("div"), { className: "lf-camera-name", textContent: camera });
      const spinner = Object.assign(document.createElement("div"), { className: "lf-player-spinner" });
      cell.append(canvas, name, spinner);
      row.append(cell);
      return canvas;
    });
    this.append(row);
  }

  buildVideos(cameras, times) {
    const urls = JSON.parse(this.getAttribute("videos"));
    const pictures = this.frames.tracks[0].unique.map((tick) => times[tick]);
    this.videos = new Videos(cameras.map((camera) => urls[camera]), times, pictures);
    this.videos.elements.forEach((video, i) => this.canvases[i].after(video));
    this.frames.ahead = AHEAD_OF_VIDEO;
  }

  /** The arm and the plots, side by side where there is room. */
  buildMotion(times, joints) {
    const both = Object.assign(document.createElement("div"), { className: "lf-player-motion" });
    this.append(both);
    const arm = JSON.parse(this.getAttribute("kinematics") ?? "null");
    this.replay = this.transport.replay = new Replay(both, arm, this.getAttribute("robot-type"), joints);
    this.buildPlots(both, times, joints);
  }

  buildPlots(host, times, joints) {
    const section = Object.assign(document.createElement("div"), { className: "lf-plots" });
    section.innerHTML =
      '<div class="lf-plots-key"><span><i></i>Measured</span><span><i class="is-sent"></i>Sent</span>' +
      '<span><i class="is-asked"></i>Requested, if not sent</span>' +
      '<button class="lf-plots-keys" type="button" data-show-keys><kbd>?</kbd> Keys</button></div>';
    const area = Object.assign(document.createElement("div"), { className: "lf-plots-area" });
    section.append(area);
    host.append(section);
    this.plots = new Plots(area, times, joints, (seconds) => this.clock.seek(seconds));
  }

  /** One turn per screen frame: move the clock, show what belongs to it, or hold it while pictures are missing. */
  turn(ms) {
    this.request = requestAnimationFrame((next) => this.turn(next));
    const byVideo = this.clock.playing && this.videos?.usable;
    if (byVideo) this.held = !this.videos.follow(this.clock);
    else this.videos?.pause();
    if (this.videos && !this.videos.usable) this.frames.ahead = AHEAD;
    this.clock.advance(ms, this.held || byVideo);
    const { tick, seconds } = this.clock;
    this.timeline.show(tick);
    this.replay.turn(tick);
    if (byVideo) return this.showVideo(tick, seconds);
    if (tick !== this.wanted) this.frames.move((this.wanted = tick));
    if (seconds !== this.shownSeconds) this.plots.show((this.shownSeconds = seconds), tick);
    if (tick !== this.shown || this.stale) this.showPictures(tick);
    this.held = this.shown !== tick;
    if (!this.held) this.dataset.by = "pictures"; // until then the video's last picture stays
    this.dataset.state = this.held ? "buffering" : this.clock.playing ? "playing" : "paused";
    this.transport.show(this.frames);
  }

  showVideo(tick, seconds) {
    if (seconds !== this.shownSeconds) this.plots.show((this.shownSeconds = seconds), tick);
    this.shown = this.wanted = null; // the tick's own pictures are asked for when it stops
    this.dataset.tick = String(tick);
    if (!this.held) this.dataset.by = "video";
    this.dataset.state = this.held ? "buffering" : this.clock.playing ? "playing" : "buffering";
    this.transport.show(this.frames);
  }

  showPictures(tick) {
    this.stale = false;
    const pictures = this.frames.at(tick);
    if (!pictures) return;
    pictures.forEach((picture, i) => this.paint(this.canvases[i], picture, tick));
    this.shown = tick;
    this.dataset.tick = String(tick);
    if (this.frames.missing) this.note(`${this.frames.missing} pictures could not be fetched; they are shown empty.`);
  }

  paint(canvas, picture, tick) {
    const context = canvas.getContext("2d");
    if (!picture) {
      context.clearRect(0, 0, canvas.width, canvas.height);
    } else if (canvas.dataset.picture !== String(tick)) {
      if (canvas.width !== picture.width || canvas.height !== picture.height) {
        Object.assign(canvas, { width: picture.width, height: picture.height });
      }
      context.drawImage(picture, 0, 0);
    }
    canvas.dataset.tick = String(tick);
  }

  note(text) {
    this.noteElement ??= this.appendChild(Object.assign(document.createElement("div"), { className: "lf-player-note lf-muted" }));
    this.noteElement.textContent = text;
  }

  fail(message) {
    this.dataset.state = "error";
    const empty = Object.assign(document.createElement("div"), { className: "lf-empty" });
    const head = Object.assign(document.createElement("h2"), { textContent: "This episode cannot be played" });
    empty.append(head, Object.assign(document.createElement("p"), { textContent: message }));
    this.replaceChildren(empty);
  }
}
customElements.define("lf-player", Player);
