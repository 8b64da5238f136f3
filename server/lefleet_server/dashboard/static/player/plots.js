// Small multiples, one per joint: measured and sent over the episode, with a time cursor that costs no redraw.

import { echarts } from "nicegui-echart";

import { limited } from "./events.js";

const HEAD = 22; // px above each plot for its name and the values at the cursor
const STACKED = 40; // the same where they do not fit beside each other
const AXIS = 20; // px below for the seconds
const LEFT = 40;
const RIGHT = 10;

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class Plots {
  /** `joints`: [{name, kind, unit, measured: [], sent: [], requested: []}] over `times` in seconds; `seek(seconds)` on click and drag. */
  constructor(area, times, joints, seek) {
    this.area = area;
    this.times = times;
    this.joints = joints;
    this.seek = seek;
    this.cursor = document.createElement("canvas");
    this.host = document.createElement("div");
    area.append(this.host, this.cursor);
    this.heads = joints.map((joint) => this.buildHead(joint));
    this.chart = echarts.init(this.host, null, { renderer: "canvas", height: 100, width: 100 });
    this.listen();
    this.resizes = new ResizeObserver(() => this.layout());
    this.resizes.observe(area);
    this.retheme = () => this.layout();
    document.addEventListener("lefleet:theme", this.retheme);
    this.layout();
  }

  close() {
    this.resizes.disconnect();
    document.removeEventListener("lefleet:theme", this.retheme);
    this.chart.dispose();
  }

  buildHead(joint) {
    const head = Object.assign(document.createElement("div"), { className: "lf-plots-head" });
    const name = Object.assign(document.createElement("b"), { textContent: joint.name.replaceAll("_", " ") });
    const values = document.createElement("span");
    const measured = document.createElement("em");
    const sent = document.createElement("u");
    const requested = document.createElement("s");
    values.append(measured, " \u2009 ", sent, requested);
    head.append(name, values);
    this.area.append(head);
    return { head, measured, sent, requested };
  }

  /** px that the longest head needs in one line, with the widest values of the episode in it. */
  measure() {
    const widest = (values) => {
      const [low, high] = values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [0, 0]);
      return [low.toFixed(1), high.toFixed(1)].sort((a, b) => b.length - a.length)[0];
    };
    return Math.max(...this.joints.map((joint, i) => {
      const { head, measured, sent, requested } = this.heads[i];
      const asked = joint.requested.filter((_, tick) => limited(joint, tick));
      measured.textContent = widest(joint.measured);
      sent.textContent = `${widest(joint.sent)}${joint.unit}`;
      requested.textContent = asked.length ? ` \u2009 ${widest(asked)}` : "";
      head.style.width = "max-content";
      return head.getBoundingClientRect().width;
    }));
  }

  layout() {
    const width = this.area.clientWidth;
    if (!width) return;
    this.needs ??= this.measure();
    const columns = Math.min(width > 680 ? 3 : width > 430 ? 2 : 1, this.joints.length);
    const rows = Math.ceil(this.joints.length / columns);
    const plot = columns === 1 ? 84 : 96;
    const gap = 18;
    const cell = { width: (width - gap * (columns - 1)) / columns };
    const stacked = cell.width - LEFT - RIGHT < this.needs;
    this.head = stacked ? STACKED : HEAD;
    cell.height = this.head + plot + AXIS;
    this.area.classList.toggle("is-stacked", stacked);
    const height = rows * cell.height + (rows - 1) * 6;
    this.host.style.height = this.area.style.height = `${height}px`;
    this.grids = this.joints.map((_, i) => ({
      left: (i % columns) * (cell.width + gap) + LEFT,
      top: Math.floor(i / columns) * (cell.height + 6) + this.head,
      width: cell.width - LEFT - RIGHT,
      height: plot,
    }));
    this.grids.forEach((grid, i) => Object.assign(this.heads[i].head.style, {
      left: `${grid.left}px`, top: `${grid.top - this.head}px`, width: `${grid.width}px`,
    }));
    const ratio = devicePixelRatio;
    Object.assign(this.cursor, { width: width * ratio, height: height * ratio });
    this.colors = { hover: css("--line-strong"), cursor: css("--text") };
    this.chart.resize({ width, height });
    this.chart.setOption(this.options(), { notMerge: true });
    if (this.tick === undefined) return;
    this.write(this.tick);
    this.draw();
  }

  options() {
    const [line, faint, accent, warn] = ["--line", "--faint", "--accent", "--warn"].map(css);
    const text = { color: faint, fontSize: 11, fontFamily: css("--font") };
    const each = (make) => this.joints.map((joint, i) => make(joint, i));
    const series = (joint, i, key, color, type, width) => ({
      type: "line", xAxisIndex: i, yAxisIndex: i, data: this.times.map((t, tick) => [t, joint[key][tick]]),
      showSymbol: false, silent: true, sampling: "lttb", lineStyle: { color, width, type, cap: "round" }, z: key === "sent" ? 2 : 3,
    });
    const nearLimit = (joint, tick) => [tick - 1, tick, tick + 1].some((near) => joint.sent[near] !== undefined && limited(joint, near));
    const asked = (joint, i) => ({
      ...series(joint, i, "requested", css("--asked"), [1, 3], 1.75), sampling: undefined,
      data: this.times.map((t, tick) => [t, nearLimit(joint, tick) ? joint.requested[tick] : null]),
    });
    return {
      animation: false,
      grid: this.grids,
      xAxis: each((_, i) => ({
        type: "value", gridIndex: i, min: 0, max: this.times.at(-1), splitNumber: 4, axisLabel: { ...text, formatter: "{value} s", showMaxLabel: false, hideOverlap: true },
        axisLine: { onZero: false, lineStyle: { color: line } }, axisTick: { show: false }, splitLine: { show: false },
      })),
      yAxis: each((_, i) => ({
        type: "value", gridIndex: i, scale: true, splitNumber: 2, axisLabel: { ...text, hideOverlap: true },
        axisLine: { show: false }, axisTick: { show: false }, splitLine: { lineStyle: { color: line } },
      })),
      series: [
        ...each((joint, i) => series(joint, i, "measured", accent, "solid", 1.75)),
        ...each((joint, i) => series(joint, i, "sent", warn, [4, 3], 1.25)),
        ...each(asked),
      ],
    };
  }

  listen() {
    const place = (event) => {
      const box = this.area.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top];
      const grid = this.held ?? this.grids.find((g) => x >= g.left - 6 && x <= g.left + g.width + 6 && y >= g.top - this.head && y <= g.top + g.height + AXIS);
      return grid && { grid, seconds: ((x - grid.left) / grid.width) * this.times.at(-1) };
    };
    this.area.addEventListener("pointerdown", (event) => {
      const at = place(event);
      if (!at || event.button !== 0) return;
      this.held = at.grid;
      this.area.setPointerCapture(event.pointerId);
      this.seek(at.seconds);
    });
    this.area.addEventListener("pointermove", (event) => {
      const at = place(event);
      if (this.held && at) this.seek(at.seconds);
      else this.hover(at?.seconds);
    });
    const release = () => (this.held = null);
    this.area.addEventListener("pointerup", release);
    this.area.addEventListener("pointercancel", release);
    this.area.addEventListener("pointerleave", () => this.hover(undefined));
  }

  hover(seconds) {
    this.hovered = seconds;
    if (this.tick !== undefined) this.draw();
  }

  /** Puts the cursor at `seconds` and the values of `tick` beside each name. */
  show(seconds, tick) {
    this.seconds = seconds;
    if (tick !== this.tick) this.write(tick);
    this.tick = tick;
    this.draw();
  }

  write(tick) {
    this.joints.forEach((joint, i) => {
      const [measured, sent] = [joint.measured[tick], joint.sent[tick]]; // null where the robot gave no finite number
      this.heads[i].measured.textContent = measured === null ? "—" : measured.toFixed(1);
      this.heads[i].sent.textContent = sent === null ? "—" : `${sent.toFixed(1)}${joint.unit}`;
      this.heads[i].requested.textContent = limited(joint, tick) ? ` \u2009 ${joint.requested[tick].toFixed(1)}` : "";
    });
  }

  draw() {
    const context = this.cursor.getContext("2d");
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    context.clearRect(0, 0, this.cursor.width, this.cursor.height);
    if (this.hovered !== undefined && !this.held) this.line(context, this.hovered, this.colors.hover);
    this.line(context, this.seconds, this.colors.cursor);
  }

  line(context, seconds, color) {
    const part = Math.min(Math.max(seconds / this.times.at(-1), 0), 1);
    context.fillStyle = color;
    for (const grid of this.grids) context.fillRect(grid.left + part * grid.width - 0.5, grid.top, 1.25, grid.height);
  }
}
