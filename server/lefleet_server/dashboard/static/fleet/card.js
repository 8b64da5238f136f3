// One robot as a card: its cameras, its last heartbeat, its emergency stop.

import { number, percent, size } from "./model.js";
import { address, bar, check, iso, issues, make, set, stateChip, stopRow, verdictRow, write } from "./parts.js";

export function buildCard(fleet, row, article) {
  const id = row.id;
  article.className = "lf-card lf-robot";
  const chosen = check(fleet, id);
  const name = make("a", "", { href: address(row) }, id);
  const line = make("div", "lf-robot-task lf-cut");
  const title = make("div", "lf-robot-title", {}, make("h2", "lf-robot-name lf-cut", {}, name), line);
  const state = stateChip();
  const cameras = make("div", "lf-cameras");
  const type = make("span", "lf-policy-type");
  const policy = make("span", "lf-mono lf-cut lf-muted");
  const policyLine = make("div", "lf-policy", {}, type, policy);
  const trouble = issues();
  const [hz, late, waiting] = [fact("Rate held", "Hz"), fact("Lateness p99", "ms"), fact("To upload", "")];
  const [celsius, host] = [fact("Motors", "°C"), fact("Host", "°C")]; // the hottest of each
  const facts = make("div", "lf-facts", {}, ...[hz, late, waiting, celsius, host].map((each) => each.element));
  const [spool, disk] = [use("Spool"), use("Disk")];
  const body = make("div", "lf-robot-body", {}, policyLine, trouble.element, facts, make("div", "lf-bars", {}, spool.element, disk.element));
  const verdict = verdictRow(fleet, id);
  const stop = stopRow(fleet, id);
  const seen = make("lf-time", "", { look: "ago", datetime: "" });
  const foot = make(
    "div", "lf-robot-foot", {}, make("div", "", {}, "Seen ", seen),
    make("a", "", { href: `/episodes?robot=${encodeURIComponent(id)}` }, "Episodes"), make("a", "", { href: address(row) }, "Details"),
  );
  article.replaceChildren(make("div", "lf-robot-head", {}, chosen.element, title, state.element), cameras, body, verdict.element, stop.element, foot);
  let pictures = "";

  return (now) => {
    set(article, "data-state", now.state);
    set(article, "data-health", now.health);
    article.toggleAttribute("data-chosen", fleet.selected.has(id));
    chosen.show();
    write(line, now.line);
    state.show(now);
    const wanted = JSON.stringify(now.cameras);
    if (wanted !== pictures) cameras.replaceChildren(...now.cameras.map((each) => camera(id, ...each)));
    pictures = wanted;
    write(type, now.policyType);
    type.hidden = !now.policyType;
    write(policy, now.policy);
    set(policyLine, "title", now.repo ? `${now.repo}@${now.commit}` : "This robot runs no policy");
    trouble.show(now);
    hz.show(number(now.hz));
    late.show(number(now.late), now.late > 10 ? "warn" : "");
    waiting.show(now.waiting == null ? "—" : String(now.waiting));
    celsius.element.hidden = now.celsius == null;
    celsius.show(number(now.celsius, 0), now.celsius >= 65 ? "bad" : now.celsius >= 55 ? "warn" : "");
    host.element.hidden = now.host == null;
    host.show(number(now.host?.[0], 0), now.host?.[1]);
    spool.show(now.spool, percent(now.spool));
    disk.show(now.disk, `${size(now.diskFree)} free`);
    verdict.show(now);
    stop.show(now);
    set(seen, "datetime", iso(now.seen));
  };
}

function camera(id, name, hasPicture) {
  const element = make("lf-camera", "", { name });
  if (hasPicture) element.setAttribute("src", `/api/v1/robots/${encodeURIComponent(id)}/cameras/${encodeURIComponent(name)}.jpg`);
  return element;
}

function fact(name, unit) {
  const value = make("span", "", {}, "—");
  const element = make("div", "", {}, make("div", "lf-fact-name", {}, name), make("div", "lf-fact-value", {}, value, make("small", "", {}, ` ${unit}`)));
  return {
    element,
    show(text, tone = "") {
      write(value, text);
      set(value, "data-tone", tone);
    },
  };
}

function use(name) {
  const meter = bar(name);
  const text = make("span");
  const element = make("div", "", {}, make("div", "lf-bar-head", {}, make("span", "", {}, name), text), meter.element);
  return {
    element,
    show(part, said) {
      meter.show(part);
      write(text, said);
    },
  };
}
