// The arm's posture at the player's tick. data-state: waiting | ready | unfit (another arm) | missing (no WebGL) | lost.
// three.js is fetched when the panel comes into sight, and it draws only then, and only what changed.

import { anglesAt, misfit, reach } from "./pose.js";

const GHOSTS = { sent: ["Sent", "--warn"], requested: ["Requested", "--asked"], none: ["None", "--warn"] };
const KEPT = "lefleet-ghost";
const SAID = {
  waiting: "Drawing the arm…",
  missing: "No 3D replay: this browser has no WebGL, or it is switched off in its settings. Pictures and plots go on without.",
  lost: "The browser took its 3D drawing away, as it does when its graphics fail. It comes back by itself or when the page is loaded anew.",
};

const make = (tag, className, more = {}) => Object.assign(document.createElement(tag), { className, ...more });

export class Replay {
  /** `arm`: what dashboard/so101_pose.py told, or null; `type`: the robot's type, for a sentence. */
  constructor(host, arm, type, joints) {
    this.arm = arm;
    this.joints = joints;
    this.dirty = true;
    this.element = make("section", "lf-replay");
    this.said = make("p", "lf-replay-said lf-muted");
    this.element.append(this.said);
    host.append(this.element);
    const reason = arm ? misfit(arm, joints) : "it has another kinematics.";
    if (reason) return this.become("unfit", `No 3D replay: only an SO-101's posture is drawn. This robot is called ${type || "an arm of no type"}; ${reason}`);
    this.become("waiting");
    this.build();
  }

  build() {
    this.ghost = GHOSTS[localStorage.getItem(KEPT)] ? localStorage.getItem(KEPT) : "sent";
    this.view = make("div", "lf-replay-view");
    this.canvas = make("canvas", "", { title: "Drag to turn, Ctrl and the wheel to come closer, double click for the first view" });
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", "The arm's posture at this tick");
    this.view.append(this.canvas);
    this.element.prepend(this.buildHead(), this.view);
    this.sizes = new ResizeObserver(() => this.resize());
    this.sizes.observe(this.view);
    this.sights = new IntersectionObserver((entries) => this.see(entries.at(-1).isIntersecting));
    this.sights.observe(this.view);
    this.retheme = () => this.repaint();
    document.addEventListener("lefleet:theme", this.retheme);
    this.canvas.addEventListener("webglcontextlost", () => this.become("lost"));
    this.canvas.addEventListener("webglcontextrestored", () => this.become("ready"));
  }

  buildHead() {
    const head = make("div", "lf-replay-head");
    const group = make("div", "lf-segments");
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", "Ghost: what the arm was told to do");
    this.buttons = Object.entries(GHOSTS).map(([name, [label]]) => {
      const button = make("button", "lf-segment", { type: "button", textContent: label });
      button.dataset.ghost = name;
      button.addEventListener("click", () => this.choose(name));
      group.append(button);
      return button;
    });
    head.append(make("h2", "", { textContent: "Arm" }), make("span", "lf-muted", { textContent: "Ghost" }), group);
    this.press();
    return head;
  }

  press() {
    for (const button of this.buttons) button.setAttribute("aria-pressed", String(button.dataset.ghost === this.ghost));
  }

  choose(name) {
    this.ghost = name;
    localStorage.setItem(KEPT, name);
    this.press();
    this.repaint();
  }

  /** The next of the ghosts, for the keyboard. */
  another() {
    const names = Object.keys(GHOSTS);
    if (this.buttons) this.choose(names[(names.indexOf(this.ghost) + 1) % names.length]);
  }

  repaint() {
    this.stage?.paint(GHOSTS[this.ghost][1]);
    this.dirty = true;
  }

  become(state, said = SAID[state] ?? "") {
    this.element.dataset.state = state;
    this.said.textContent = said;
    this.dirty = true;
  }

  see(inSight) {
    this.inSight = inSight;
    if (inSight && !this.loading) this.loading = this.load();
  }

  async load() {
    // Asked before three.js is: it would write its failure to the console.
    if (!document.createElement("canvas").getContext("webgl2")) return this.become("missing");
    const { Stage } = await import("./figure.js").catch((error) => {
      this.become("missing", "No 3D replay: its program could not be fetched. Load the page anew.");
      throw error;
    });
    if (this.closed) return;
    this.stage = new Stage(this.canvas, this.arm, reach(this.arm, this.joints), () => (this.dirty = true));
    this.resize();
    this.repaint();
    this.become("ready");
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.view;
    if (!this.stage || !width || !height) return;
    this.stage.size(width, height);
    this.dirty = true;
  }

  /** Called once per screen frame. Draws when it is in sight and the tick, the view or the ghost changed. */
  turn(tick) {
    if (!this.inSight || this.element.dataset.state !== "ready" || (tick === this.tick && !this.dirty)) return;
    this.tick = tick;
    this.dirty = false;
    const measured = anglesAt(this.arm, this.joints, "measured", tick);
    const ghost = this.ghost === "none" ? null : anglesAt(this.arm, this.joints, this.ghost, tick);
    this.stage.draw(measured, ghost);
    this.said.textContent = measured ? "" : "No reading of the joints at this tick.";
    Object.assign(this.element.dataset, { tick, draws: this.stage.draws });
  }

  close() {
    this.closed = true;
    this.sizes?.disconnect();
    this.sights?.disconnect();
    document.removeEventListener("lefleet:theme", this.retheme);
    this.stage?.close();
  }
}
