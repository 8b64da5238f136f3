// What happened in an episode: found in its columns (GET /api/v1/episodes/{id}/signals), and told by the server. Pure.

import { tickAt } from "./clock.js";

// As the quality flags of docs/episode-format.md count it: units, seconds; and as the fleet page warns: milliseconds.
const CLIPPED = 0.5;
const FROZEN_S = 1;
const LATE_MS = 10;
const MISSING_PERIODS = 1.5;
const MOST_OF_A_KIND = 200; // shorter pauses between two are overlooked in a long episode, so that they can be drawn

export const KINDS = {
  stop: "Emergency stop",
  person: "Person led",
  held: "Held",
  limited: "Limited",
  dropped: "Ticks missing",
  late: "Late",
  frozen: "No new picture",
  server: "Noted by the server",
};

/** True where what the policy asked for is not what was sent, in the joint's own unit. */
export function limited(joint, tick) {
  const [sent, requested] = [joint.sent[tick], joint.requested[tick]];
  return sent !== null && requested !== null && Math.abs(requested - sent) * (joint.kind === "radians" ? 180 / Math.PI : 1) > CLIPPED;
}

/** [[first, last]] ticks at which `is` holds, those with at most `pause` others between them taken as one. */
function stretches(ticks, is, pause) {
  const found = [];
  for (let tick = 0; tick < ticks; tick++) {
    if (!is(tick)) continue;
    const before = found.at(-1);
    if (before && tick - before[1] <= pause + 1) before[1] = tick;
    else found.push([tick, tick]);
  }
  return found;
}

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];
const named = (names) => [...new Set(names)].map((name) => name.replaceAll("_", " ")).join(", ");

function* gaps(times) {
  const steps = times.slice(1).map((time, i) => time - times[i]);
  const period = median(steps);
  for (const [i, step] of steps.entries()) {
    const missing = Math.round(step / period) - 1;
    if (step > MISSING_PERIODS * period) yield { kind: "dropped", first: i, last: i + 1, text: `${missing} ticks missing` };
  }
}

function* frozen(times, seqs) {
  for (const [camera, seq] of Object.entries(seqs)) {
    for (let first = 0, tick = 1; tick <= seq.length; tick++) {
      if (tick < seq.length && seq[tick] === seq[first]) continue;
      if (times[tick - 1] - times[first] >= FROZEN_S) yield { kind: "frozen", first, last: tick - 1, text: `No new picture of ${camera}` };
      first = tick;
    }
  }
}

/** [{kind, first, last, text}] of what readSignals gives. */
export function findEvents({ times, joints, seqs, held, intervention, lateness }) {
  const ticks = times.length;
  const pause = Math.floor(ticks / MOST_OF_A_KIND);
  const during = (kind, is, text) => stretches(ticks, is, pause).map(([first, last]) => ({ kind, first, last, text: text(first, last) }));
  const who = (first, last) => joints.filter((joint) => range(first, last).some((tick) => limited(joint, tick))).map(({ name }) => name);
  const worst = (first, last) => Math.max(...lateness.slice(first, last + 1));
  return [
    ...during("person", (tick) => intervention[tick] === 1, () => "A person led the arm"),
    ...during("held", (tick) => held[tick] === 1, () => "Held: nothing fresh to do, the last action was sent again"),
    ...during("limited", (tick) => joints.some((joint) => limited(joint, tick)), (first, last) => `Not sent as requested: ${named(who(first, last))}`),
    ...during("late", (tick) => lateness[tick] > LATE_MS, (first, last) => `Began up to ${worst(first, last).toFixed(0)} ms late`),
    ...gaps(times),
    ...frozen(times, seqs),
  ];
}

/** The same of what the server knows of the robot: [{at_s: since the first tick, stop: whether it is about one, text}]. */
export function placeTold(times, told) {
  return told.map(({ at_s, stop, text }) => {
    const tick = tickAt(times, at_s);
    return { kind: stop ? "stop" : "server", first: tick, last: tick, text };
  });
}

/** As the time line wants them: by their first tick. */
export const inOrder = (events) => events.toSorted((a, b) => a.first - b.first || a.last - b.last);

function range(first, last) {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}
