// Where an arm's frames are, from the joints that the server told (dashboard/so101_pose.py). Pure; metres and radians.

/** Radians from the file's numbers; null for one that is missing, undefined for a unit that is not known. */
function radians(arm, name, unit, value) {
  if (value === null) return null;
  const [closed, open] = arm.gripper_rad;
  if (unit === "percent" && name === "gripper") return closed + ((open - closed) * value) / 100;
  return { degrees: (value * Math.PI) / 180, radians: value }[unit];
}

/** Why this arm's posture cannot be drawn from `joints` (signals.js), as a sentence; null when it can. */
export function misfit(arm, joints) {
  const missing = arm.joints.filter(({ name }) => !joints.some((joint) => joint.name === name));
  if (missing.length) return `it has no joint ${missing[0].name}, only ${joints.map(({ name }) => name).join(", ")}.`;
  const strange = joints.find(({ name, kind }) => arm.joints.some((joint) => joint.name === name) && radians(arm, name, kind, 0) === undefined);
  return strange ? `the unit of ${strange.name}, ${strange.kind || "none"}, is not known for it.` : null;
}

/** {joint: radians} at `tick` of `column` ("measured", "sent", "requested"); null where the file has no number. */
export function anglesAt(arm, joints, column, tick) {
  const angles = {};
  for (const { name } of arm.joints) {
    const joint = joints.find((each) => each.name === name);
    angles[name] = radians(arm, name, joint.kind, joint[column][tick]);
    if (angles[name] === null) return null;
  }
  return angles;
}

/** A joint's frame in its parent's, turned by `angle` around its own z axis: 4 x 4, column after column. */
export function local({ xyz, rest }, angle) {
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  const column = (i) => rest.map((row) => row[i]);
  const [x, y, z] = [column(0), column(1), column(2)];
  const turned = (a, b, p, q) => a.map((value, i) => p * value + q * b[i]);
  return [...turned(x, y, cos, sin), 0, ...turned(x, y, -sin, cos), 0, ...z, 0, ...xyz, 1];
}

/** The ball, {center, radius}, in which the arm's joints and jaw are throughout, by some two hundred of its ticks. */
export function reach(arm, joints) {
  const points = [[0, 0, 0]];
  const { length } = joints[0].measured;
  const step = Math.ceil(length / 200);
  for (let tick = 0; tick < length; tick += step) {
    const angles = anglesAt(arm, joints, "measured", tick);
    if (angles) for (const limb of arm.limbs) points.push(place(arm, angles, limb.joint, limb.end));
  }
  const [low, high] = [Math.min, Math.max].map((pick) => [0, 1, 2].map((axis) => pick(...points.map((point) => point[axis]))));
  const center = low.map((value, axis) => (value + high[axis]) / 2);
  const thick = Math.max(...arm.limbs.map((limb) => limb.radius_m));
  return { center, radius: thick + Math.max(...points.map((point) => Math.hypot(...point.map((value, axis) => value - center[axis])))) };
}

/** Where a point of a joint's frame is in the base's. */
export function place(arm, angles, name, point) {
  while (name !== "base") {
    const joint = arm.joints.find((each) => each.name === name);
    const matrix = local(joint, angles[name]);
    point = [0, 1, 2].map((row) => matrix[row] * point[0] + matrix[4 + row] * point[1] + matrix[8 + row] * point[2] + matrix[12 + row]);
    name = joint.parent;
  }
  return point;
}
