// Turns the server's columns (GET /api/v1/episodes/{id}/signals) into what the player draws.

const UNITS = { degrees: "°", degree: "°", deg: "°", percent: " %", "%": " %", radians: " rad", rad: " rad" };

/** {times: seconds from the first tick, joints: [{name, unit, measured, sent}], cameras, seqs: {camera: [...]}} */
export function readSignals(columns) {
  return columns;
}
