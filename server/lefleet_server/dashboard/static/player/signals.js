// Turns the server's columns (GET /api/v1/episodes/{id}/signals) into what the player draws.

const KINDS = { degrees: "degrees", degree: "degrees", deg: "degrees", percent: "percent", "%": "percent", radians: "radians", rad: "radians" };
const UNITS = { degrees: "°", percent: " %", radians: " rad" };
const kindOf = (unit) => KINDS[unit?.toLowerCase()] ?? unit ?? "";

/** {times: seconds from the first tick, joints: [{name, kind: "degrees", unit: "°", measured, sent, requested}], cameras,
 *  seqs: {camera: [...]}, held, intervention: [0 or 1] or [], lateness: ms} */
export function readSignals(columns) {
  return {
    times: columns.time_s,
    cameras: Object.keys(columns.image_seq),
    seqs: columns.image_seq,
    held: columns.held,
    intervention: columns.intervention,
    lateness: columns.lateness_ms,
    joints: columns.joint_names.map((name, i) => ({
      name: name.replace(/\.pos$/, ""),
      kind: kindOf(columns.joint_units[i]),
      unit: UNITS[kindOf(columns.joint_units[i])] ?? "",
      measured: columns.qpos[i],
      sent: columns.action[i],
      requested: columns.action_requested[i],
    })),
  };
}
