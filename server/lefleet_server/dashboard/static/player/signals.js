// Turns the server's columns (GET /api/v1/episodes/{id}/signals) into what the player draws.

const UNITS = { degrees: "°", degree: "°", deg: "°", percent: " %", "%": " %", radians: " rad", rad: " rad" };

/** {times: seconds from the first tick, joints: [{name, unit, measured, sent}], cameras, seqs: {camera: [...]}} */
export function readSignals(columns) {
  return {
    times: columns.time_s,
    cameras: Object.keys(columns.image_seq),
    seqs: columns.image_seq,
    joints: columns.joint_names.map((name, i) => ({
      name: name.replace(/\.pos$/, ""),
      unit: UNITS[columns.joint_units[i]?.toLowerCase()] ?? "",
      measured: columns.qpos[i],
      sent: columns.action[i],
    })),
  };
}
