// The fleet as last told: rows by robot, what changed, which match the filters, in which order. No DOM.

export const HEALTH = ["bad", "warn", "good", "off"];
const UNITS = ["B", "kB", "MB", "GB", "TB"];
const DASH = "—";

export class Model {
  load({ fields, rows }) {
    this.fields = fields;
    this.rows = new Map(rows.map((row) => [row[0], this.named(row)]));
  }

  named(row) {
    return Object.fromEntries(this.fields.map((field, place) => [field, row[place]]));
  }

  // Returns {changed: ids, moved: whether robots came or went}. Objects are replaced, never edited: what a card has
  // shown is compared by identity.
  apply(changes) {
    const changed = new Set();
    let moved = false;
    for (const { cells = {}, new: added = [], gone = [] } of changes) {
      for (const [id, values] of Object.entries(cells)) {
        const row = { ...this.rows.get(id) };
        for (const [place, value] of Object.entries(values)) row[this.fields[place]] = value;
        this.rows.set(id, row);
        changed.add(id);
      }
      for (const row of added) this.rows.set(row[0], this.named(row));
      for (const id of gone) this.rows.delete(id);
      moved ||= added.length + gone.length > 0;
    }
    return { changed, moved };
  }

  chosen(criteria) {
    const words = criteria.q.toLowerCase().split(/\s+/).filter(Boolean);
    const found = [...this.rows.values()].filter((row) => matches(row, criteria, words));
    return found.sort(order(criteria.sort));
  }

  // What the filters offer: values with how many robots have them.
  choices(field) {
    const counts = new Map();
    for (const row of this.rows.values()) if (row[field]) counts.set(row[field], (counts.get(row[field]) ?? 0) + 1);
    return [...counts].sort(([a], [b]) => names.compare(a, b));
  }
}

function matches(row, { health, policy, release, site }, words) {
  if (health && row.health !== health) return false;
  if (policy && row.repo !== policy) return false;
  if (release && row.policy !== release) return false;
  if (site && row.site !== site) return false;
  if (!words.length) return true;
  const text = `${row.id} ${row.site} ${row.state} ${row.line} ${row.repo} ${row.policy}`.toLowerCase();
  return words.every((word) => text.includes(word));
}

const names = new Intl.Collator("en", { numeric: true });
const KEYS = {
  name: (row) => row.id,
  state: (row) => row.state,
  health: (row) => HEALTH.indexOf(row.health),
  policy: (row) => row.policy,
  hz: (row) => row.hz,
  late: (row) => row.late,
  spool: (row) => row.spool,
  disk: (row) => row.disk,
  celsius: (row) => row.celsius,
  host: (row) => row.host?.[0],
  seen: (row) => row.seen,
};
export const LIVE_KEYS = new Set(["health", "hz", "late", "spool", "disk", "celsius", "host", "seen", "state"]);

// "late" or "-late"; what was not said comes last either way, and the name decides between equals.
function order(sort) {
  const down = sort.startsWith("-");
  const key = KEYS[sort.replace("-", "")] ?? KEYS.name;
  return (a, b) => {
    const [x, y] = [key(a), key(b)];
    if (x == null || y == null) return (x == null) - (y == null) || names.compare(a.id, b.id);
    const way = typeof x === "string" ? names.compare(x, y) : x - y;
    return (down ? -way : way) || names.compare(a.id, b.id);
  };
}

export const number = (value, digits = 1) => (value == null ? DASH : value.toFixed(digits));
export const percent = (part) => (part == null ? DASH : `${Math.round(100 * part)} %`);
export const words = (text) => text[0].toUpperCase() + text.slice(1).replaceAll("_", " ");

export function size(bytes) {
  if (bytes == null) return DASH;
  let unit = 0;
  for (; bytes >= 1000 && unit < UNITS.length - 1; unit++) bytes /= 1000;
  return `${unit < 2 || bytes >= 100 ? bytes.toFixed(0) : bytes.toFixed(1)} ${UNITS[unit]}`;
}

const TONES = {
  running: "live", resetting: "warn", starting: "warn", drained: "warn", parking: "warn", estopped: "bad",
  spool_full: "bad", fault: "bad", error: "bad", control_down: "bad", stopped: "off", offline: "off", retired: "off",
};
export const tone = (state) => TONES[state] ?? "";
export const STOP_TONES = { free: "off", stopping: "warn", stopped: "bad", releasing: "warn" };
export const wanted = (row) => row.stop[0] === "stopping" || row.stop[0] === "stopped";
export const meter = (part) => (part >= 0.95 ? "bad" : part >= 0.8 ? "warn" : "");
