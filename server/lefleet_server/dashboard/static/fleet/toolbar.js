// Above the robots: search, filters, look, order, and the views that a person keeps.

import { HEALTH, words } from "./model.js";
import { make, set, write } from "./parts.js";

const FILTERS = [["policy", "All policies", "repo"], ["release", "All releases", "policy"], ["site", "All sites", "site"]];
const LABELS = { bad: "Attention", warn: "Warnings", good: "Well", off: "Retired" };
const last = (path) => path.replace(/\/+$/, "").split("/").pop();

export class Toolbar {
  // `change(criteria)` is called with what is to be different.
  constructor(fleet, change) {
    this.fleet = fleet;
    this.change = change;
    this.views = [];
    this.search = make("input", "lf-input lf-search", { type: "search", placeholder: "Search robots", "aria-label": "Search robots" });
    this.search.addEventListener("input", () => change({ q: this.search.value }));
    this.health = make("div", "lf-segments lf-health", { role: "group", "aria-label": "Health" });
    this.healthButtons = Object.fromEntries(HEALTH.map((name) => [name, this.healthButton(name)]));
    this.selects = Object.fromEntries(FILTERS.map(([name, all]) => [name, this.select(name, all)]));
    this.view = this.pick("View", () => this.takeView(this.view.value));
    this.keep = this.button("Save view", () => this.ask());
    this.forget = this.button("Delete view", () => fleet.emit("forget", this.view.value));
    this.clear = this.button("Clear filters", () => change({ q: "", health: "", policy: "", release: "", site: "" }));
    this.looks = make("div", "lf-segments", { role: "group", "aria-label": "Look" });
    this.lookButtons = Object.fromEntries([["cards", "Cards"], ["table", "Table"]].map(([name, text]) => [name, this.lookButton(name, text)]));
    this.count = make("span", "lf-count lf-muted");
    this.element = make(
      "div", "lf-filters lf-fleet-bar", { role: "search" },
      this.search, this.health, ...Object.values(this.selects), this.view, this.keep, this.forget, this.clear,
    );
    this.foot = make("div", "lf-fleet-foot", {}, this.count, this.looks);
  }

  button(text, press) {
    const made = make("button", "lf-button", { type: "button" }, text);
    made.addEventListener("click", press);
    return made;
  }

  pick(label, changed) {
    const made = make("select", "lf-select", { "aria-label": label });
    made.addEventListener("change", changed);
    return made;
  }

  select(name, all) {
    const made = this.pick(words(name), () => this.change({ [name]: made.value }));
    made.dataset.all = all;
    return made;
  }

  healthButton(name) {
    const count = make("b");
    const made = make("button", "lf-segment", { type: "button", "data-health": name }, make("span", "lf-dot", { "data-tone": name }), LABELS[name], count);
    made.addEventListener("click", () => this.change({ health: made.getAttribute("aria-pressed") === "true" ? "" : name }));
    this.health.append(made);
    return { button: made, count };
  }

  lookButton(name, text) {
    const made = make("button", "lf-segment", { type: "button" }, text);
    made.addEventListener("click", () => this.change({ view: name }));
    this.looks.append(made);
    return made;
  }

  show(criteria, shown, model) {
    if (document.activeElement !== this.search) this.search.value = criteria.q;
    const counts = new Map(model.choices("health"));
    for (const [name, { button, count }] of Object.entries(this.healthButtons)) {
      set(button, "aria-pressed", String(criteria.health === name));
      write(count, String(counts.get(name) ?? 0));
      button.hidden = !counts.get(name) && criteria.health !== name && name !== "good";
    }
    for (const [name, , field] of FILTERS) this.fill(this.selects[name], criteria[name], model.choices(field));
    for (const [name, button] of Object.entries(this.lookButtons)) set(button, "aria-pressed", String(criteria.view === name));
    this.clear.hidden = !["q", "health", "policy", "release", "site"].some((name) => criteria[name]);
    const all = `${model.rows.size} robot${model.rows.size === 1 ? "" : "s"}`;
    write(this.count, shown === model.rows.size ? all : `${shown} of ${all}`);
    this.showViews(criteria);
  }

  fill(select, chosen, choices) {
    if (chosen && !choices.some(([value]) => value === chosen)) choices.push([chosen, 0]);
    const key = JSON.stringify([chosen, choices]);
    set(select, "data-set", chosen ? "yes" : "no");
    select.hidden = choices.length < 2 && !chosen;
    this.offer(select, select.dataset.all, chosen, choices.map(([value, count]) => [value, `${last(value)} (${count})`]), key);
  }

  // Values with their texts, when `key` says that they are others than before.
  offer(select, all, chosen, choices, key) {
    if (select.dataset.filled === key || document.activeElement === select) return; // never under an open list
    select.dataset.filled = key;
    const options = choices.map(([value, text]) => make("option", "", { value }, text));
    select.replaceChildren(make("option", "", { value: "" }, all), ...options);
    select.value = chosen;
  }

  showViews(criteria) {
    const here = this.fleet.query(criteria);
    const found = this.views.find(([, query]) => query === here);
    this.view.hidden = !this.views.length;
    this.forget.hidden = !found;
    this.keep.hidden = Boolean(found) || !here;
    set(this.view, "data-set", found ? "yes" : "no");
    const names = this.views.map(([name]) => name);
    this.offer(this.view, "Saved views", found?.[0] ?? "", names.map((name) => [name, name]), JSON.stringify([found?.[0], names]));
  }

  takeView(name) {
    this.fleet.take(this.views.find(([kept]) => kept === name)?.[1] ?? "");
  }

  ask() {
    const name = make("input", "lf-input", { "aria-label": "Name of the view", maxlength: "60", required: "", placeholder: "Name" });
    const cancel = this.button("Cancel", () => dialog.close());
    const save = make("button", "lf-button is-primary", { type: "submit" }, "Save");
    const form = make("form", "", { method: "dialog" }, make("h2", "", {}, "Save this view"), name, make("div", "lf-question-foot", {}, cancel, save));
    const dialog = make("dialog", "lf-card lf-dialog", {}, form);
    form.addEventListener("submit", () => this.fleet.emit("save", [name.value.trim(), this.fleet.query(this.fleet.criteria)]));
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  }
}
