// <lf-fleet fleet views may-stop>: every robot as cards or as a table. The server calls load() and apply(); events ask it
// to stop, release, order, save and forget. Only what is near the window is built: a robot elsewhere is one empty element.

import { shortcut } from "../keys.js";
import { buildCard } from "./card.js";
import { LIVE_KEYS, Model, wanted } from "./model.js";
import { make, set, write } from "./parts.js";
import { buildRow, COLUMNS } from "./row.js";
import { Toolbar } from "./toolbar.js";

const CARDS_UP_TO = 24; // more are a table, unless the viewer wants cards
const REORDER_MS = 5000; // an order by what changes all the time would otherwise never hold still
const ORDERS = [
  ["rest", "Rest", "Let the robots chosen rest", "r"], ["go-on", "Go on", "Let the robots chosen go on", "g"],
  ["task", "Task…", "Give the robots chosen a task", "w"], ["reboot", "Reboot…", "Reboot the robots chosen", ""],
];
const NONE = { q: "", health: "", policy: "", release: "", site: "", sort: "name", view: "" };

class Fleet extends HTMLElement {
  static observedAttributes = ["views"];
  model = new Model();
  selected = new Set();
  shells = new Map();
  ordered = [];
  criteria = NONE;

  connectedCallback() {
    if (this.list) return;
    this.mayStop = this.hasAttribute("may-stop");
    this.model.load(JSON.parse(this.getAttribute("fleet")));
    this.removeAttribute("fleet");
    this.toolbar = new Toolbar(this, (changes) => this.narrow(changes));
    this.toolbar.views = JSON.parse(this.getAttribute("views") ?? "[]");
    this.head = this.buildHead();
    this.list = make("div", "lf-robots");
    this.nothing = make("div", "lf-card lf-empty", {}, make("h2", "", {}, "No robot matches"), make("p", "", {}, "Clear the filters, or search for another word."));
    this.bar = this.buildBar();
    this.near = new IntersectionObserver((entries) => entries.forEach((entry) => this.seen(entry)), { rootMargin: "500px 0px" });
    this.append(this.toolbar.element, this.toolbar.foot, this.head, this.list, this.bar);
    this.addKeys();
    this.take(location.search.slice(1));
  }

  attributeChangedCallback(_, __, value) {
    if (!this.toolbar) return;
    this.toolbar.views = JSON.parse(value);
    this.toolbar.showViews(this.criteria);
  }

  emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  load(fleet) {
    this.model.load(fleet);
    for (const id of this.shells.keys()) this.showRobot(id);
    this.arrange();
  }

  apply(changes) {
    const { changed, moved } = this.model.apply(changes);
    for (const id of changed) this.showRobot(id);
    const { sort, q, health, policy, release, site } = this.criteria;
    const live = LIVE_KEYS.has(sort.replace("-", "")) && performance.now() - this.arrangedAt > REORDER_MS;
    if (moved || live || q || health || policy || release || site) this.arrange();
    else this.toolbar.show(this.criteria, this.ordered.length, this.model);
    this.showBar();
  }

  // The criteria as an address' query, without what is as usual.
  query(criteria) {
    const usual = { ...NONE, view: this.usualView };
    return new URLSearchParams(Object.entries(criteria).filter(([name, value]) => value && value !== usual[name])).toString();
  }

  get usualView() {
    return this.model.rows.size > CARDS_UP_TO ? "table" : "cards";
  }

  take(query) {
    const asked = new URLSearchParams(query);
    const names = Object.keys(NONE).filter((name) => asked.has(name));
    this.narrow({ ...NONE, ...Object.fromEntries(names.map((name) => [name, asked.get(name)])) });
  }

  narrow(changes) {
    this.criteria = { ...this.criteria, ...changes };
    if (!["cards", "table"].includes(this.criteria.view)) this.criteria.view = this.usualView;
    const query = this.query(this.criteria);
    history.replaceState(history.state, "", query ? `?${query}` : location.pathname);
    if (this.dataset.view !== this.criteria.view) this.reset();
    this.arrange();
  }

  reset() {
    this.dataset.view = this.criteria.view;
    for (const { element } of this.shells.values()) this.near.unobserve(element);
    this.shells.clear();
    this.ordered = [];
    set(this.list, "role", this.criteria.view === "table" ? "table" : "list");
  }

  // Filters and order anew; the elements move only when the order did.
  arrange() {
    this.arrangedAt = performance.now();
    const ids = this.model.chosen(this.criteria).map((row) => row.id);
    for (const id of this.selected) if (!this.model.rows.has(id)) this.selected.delete(id);
    if (ids.length !== this.ordered.length || ids.some((id, place) => id !== this.ordered[place])) {
      this.ordered = ids;
      for (const [id, { element }] of this.shells) {
        if (this.model.rows.has(id)) continue;
        this.near.unobserve(element);
        this.shells.delete(id);
      }
      this.list.replaceChildren(...ids.map((id) => this.shell(id).element));
    }
    this.list.hidden = !ids.length;
    if (ids.length || !this.model.rows.size) this.nothing.remove();
    else this.list.after(this.nothing);
    this.head.hidden = this.criteria.view !== "table" || !ids.length;
    for (const button of this.head.querySelectorAll("[data-sort]")) this.showOrder(button);
    this.toolbar.show(this.criteria, ids.length, this.model);
    this.showBar();
  }

  shell(id) {
    if (!this.shells.has(id)) {
      const element = make(this.criteria.view === "table" ? "div" : "article", "lf-shell-robot", { "data-robot": id });
      this.shells.set(id, { element, show: null });
      this.near.observe(element);
    }
    return this.shells.get(id);
  }

  seen({ target, isIntersecting, boundingClientRect }) {
    const id = target.dataset.robot;
    if (isIntersecting) this.build(id);
    else if (this.shells.get(id)?.show && !target.contains(document.activeElement)) {
      target.style.minHeight = `${boundingClientRect.height}px`; // so that nothing below moves
      this.shells.get(id).show = null;
      target.replaceChildren();
    }
  }

  build(id) {
    const shell = this.shells.get(id);
    if (!shell || shell.show || !this.model.rows.has(id)) return;
    const builder = this.criteria.view === "table" ? buildRow : buildCard;
    shell.show = builder(this, this.model.rows.get(id), shell.element);
    shell.element.style.minHeight = "";
    shell.show(this.model.rows.get(id));
  }

  showRobot(id) {
    const row = this.model.rows.get(id);
    if (row) this.shells.get(id)?.show?.(row);
  }

  buildHead() {
    const all = make("input", "lf-robot-check", { type: "checkbox", "aria-label": "Select all that are shown" });
    all.addEventListener("click", () => this.selectAll(all.checked));
    const titles = COLUMNS.map(([key, title]) => {
      const button = make("button", "lf-sort", { type: "button", "data-sort": key }, title);
      button.addEventListener("click", () => this.narrow({ sort: this.criteria.sort === key ? `-${key}` : key }));
      return button;
    });
    return make("div", "lf-robot-line is-header", {}, all, ...titles, make("span"));
  }

  showOrder(button) {
    const { sort } = this.criteria;
    const key = button.dataset.sort;
    set(button, "data-way", sort === key ? "up" : sort === `-${key}` ? "down" : "");
  }

  buildBar() {
    this.chosenCount = make("span", "lf-bar-count");
    const button = (text, className, press) => {
      const made = make("button", `lf-button ${className}`, { type: "button" }, text);
      made.addEventListener("click", press);
      return made;
    };
    const stop = button("Emergency stop", "is-danger", () => this.emit("stop", this.chosenIds()));
    this.releaseChosen = button("Release", "", () => this.release(this.chosenIds()));
    for (const each of [stop, this.releaseChosen]) each.disabled = !this.mayStop;
    if (!this.mayStop) stop.title = "Emergency stops need the role operator";
    const orders = (this.mayStop ? ORDERS : []).map(([what, text, does, key]) => {
      const made = button(text, "", () => this.order(what));
      made.title = key ? `${does} (key ${key.toUpperCase()})` : does;
      return made;
    });
    return make("div", "lf-card lf-chosen", { role: "toolbar", "aria-label": "Robots chosen" }, this.chosenCount, stop, this.releaseChosen, ...orders, button("Clear", "", () => this.selectAll(false)));
  }

  chosenIds() {
    return [...this.selected].sort();
  }

  // The server asks back, and says what becomes of it.
  order(what) {
    if (!this.selected.size) return false;
    this.emit("order", [what, this.chosenIds()]);
  }

  // Tells which stop the viewer saw: a newer one is not ended.
  release(ids) {
    const rows = ids.map((id) => this.model.rows.get(id)).filter((row) => row && wanted(row));
    if (rows.length) this.emit("release", Object.fromEntries(rows.map((row) => [row.id, row.stop[1]])));
  }

  select(id, on, range = false) {
    const [from, to] = [this.ordered.indexOf(this.lastChosen), this.ordered.indexOf(id)].sort((a, b) => a - b);
    const ids = range && from >= 0 ? this.ordered.slice(from, to + 1) : [id];
    for (const each of ids) this.selected[on ? "add" : "delete"](each);
    this.lastChosen = id;
    for (const each of ids) this.showRobot(each);
    this.showBar();
  }

  selectAll(on) {
    this.selected = new Set(on ? this.ordered : []);
    for (const id of this.shells.keys()) this.showRobot(id);
    this.showBar();
  }

  showBar() {
    const count = this.selected.size;
    this.bar.hidden = count === 0;
    write(this.chosenCount, `${count} selected`);
    this.releaseChosen.hidden = ![...this.selected].some((id) => wanted(this.model.rows.get(id)));
    this.head.querySelector("input").checked = count > 0 && this.ordered.every((id) => this.selected.has(id));
  }

  addKeys() {
    const at = () => document.activeElement?.closest("[data-robot]")?.dataset.robot;
    const step = (by) => () => {
      const place = this.ordered.indexOf(at());
      const id = this.ordered[place < 0 ? 0 : Math.min(Math.max(place + by, 0), this.ordered.length - 1)];
      if (!id) return false;
      this.build(id);
      const { element } = this.shells.get(id);
      element.querySelector("a").focus({ preventScroll: true });
      element.scrollIntoView({ block: "nearest" });
    };
    shortcut("/", "Search", () => this.toolbar.search.focus());
    shortcut("j", "Next robot", step(1));
    shortcut("k", "Robot before", step(-1));
    shortcut("x", "Select the robot", () => (at() ? this.select(at(), !this.selected.has(at())) : false));
    shortcut("a", "Select all that are shown", () => this.selectAll(true));
    shortcut("Escape", "Select none", () => (this.selected.size ? this.selectAll(false) : false));
    for (const [what, , does, key] of this.mayStop ? ORDERS : []) if (key) shortcut(key, does, () => this.order(what));
    shortcut("c", "Cards", () => this.narrow({ view: "cards" }));
    shortcut("t", "Table", () => this.narrow({ view: "table" }));
    shortcut("b", "Only robots that need attention", () => this.narrow({ health: this.criteria.health === "bad" ? "" : "bad" }));
    shortcut("Enter", "Open the robot", () => false);
  }
}
customElements.define("lf-fleet", Fleet);
