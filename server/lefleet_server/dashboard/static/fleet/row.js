// One robot as a line of the table.

import { meter, number, percent } from "./model.js";
import { address, check, iso, issues, make, set, stateChip, stopRow, write } from "./parts.js";

// Order and titles of the columns; `sort` is the key in model.js.
export const COLUMNS = [
  ["name", "Robot"], ["state", "State"], ["health", "Health"], ["policy", "Policy and release"], ["hz", "Hz"],
  ["late", "Late p99"], ["spool", "Spool"], ["disk", "Disk"], ["celsius", "Motors"], ["host", "Host"], ["seen", "Seen"],
];

export function buildRow(fleet, row, element) {
  element.className = "lf-robot-line";
  element.removeAttribute("data-open");
  element.setAttribute("role", "row");
  const chosen = check(fleet, row.id);
  const line = make("div", "lf-cell-sub lf-cut");
  const name = make("div", "lf-cell", {}, make("a", "lf-cell-main lf-cut", { href: address(row) }, row.id), line);
  const state = stateChip();
  const dot = make("span", "lf-dot");
  const first = make("span", "lf-cut");
  const more = make("button", "lf-more", { type: "button", "aria-expanded": "false" });
  const health = make("div", "lf-robot-line-health", {}, dot, first, more);
  const trouble = issues();
  more.addEventListener("click", () => open(!element.hasAttribute("data-open")));
  const policy = make("div", "lf-mono lf-cut lf-muted lf-robot-line-policy");
  const [hz, late, spool, disk, celsius, host] = ["hz", "late", "spool", "disk", "celsius", "host"].map((key) => make("div", `lf-num is-right lf-robot-line-${key}`));
  const seen = make("lf-time", "", { look: "ago", datetime: "" });
  const stop = stopRow(fleet, row.id, true);
  const cells = [
    chosen.element, name, make("div", "", {}, state.element), health, policy, hz, late, spool, disk, celsius, host,
    make("div", "lf-num is-right lf-muted lf-robot-line-seen", {}, seen), stop.element, trouble.element,
  ];
  for (const cell of cells.slice(1)) cell.setAttribute("role", "cell");
  element.replaceChildren(...cells);

  function open(wanted) {
    element.toggleAttribute("data-open", wanted);
    set(more, "aria-expanded", String(wanted));
  }

  return (now) => {
    set(element, "data-state", now.state);
    set(element, "data-health", now.health);
    element.toggleAttribute("data-chosen", fleet.selected.has(now.id));
    chosen.show();
    write(line, now.line);
    state.show(now);
    set(dot, "data-tone", now.health);
    write(first, now.issues.length ? now.issues[0][1] : now.health === "off" ? "" : "Well");
    set(first, "title", now.issues.map(([, text]) => text).join(", "));
    const others = now.issues.length - 1;
    more.hidden = others < 1;
    write(more, `+${others}`);
    set(more, "aria-label", `${others} more of ${now.id}`);
    if (more.hidden) open(false);
    trouble.show(now);
    write(policy, now.policy);
    set(policy, "title", now.repo ? `${now.repo}@${now.commit}` : "This robot runs no policy");
    write(hz, number(now.hz));
    toned(late, number(now.late), now.late > 10 ? "warn" : "");
    toned(spool, percent(now.spool), meter(now.spool ?? 0));
    set(spool, "title", now.waiting == null ? "" : `${now.waiting} episodes wait for the server`);
    toned(disk, percent(now.disk), meter(now.disk ?? 0));
    toned(celsius, now.celsius == null ? "—" : `${number(now.celsius, 0)} °C`, now.celsius >= 65 ? "bad" : now.celsius >= 55 ? "warn" : "");
    toned(host, now.host == null ? "—" : `${number(now.host[0], 0)} °C`, now.host?.[1] ?? "");
    set(seen, "datetime", iso(now.seen));
    stop.show(now);
  };
}

function toned(element, text, tone) {
  write(element, text);
  set(element, "data-tone", tone);
}
