// <lf-selection may-label="yes|no">: the keyboard's place and the chosen rows of the table of episodes (a.lf-row). Events:
// "judge" {ids, outcome, last}, "remark" {ids, note}, "collect" and "judgeall" {ids, word}; buttons inside have data-do.
// After a "judge" the server calls stay() when it was not done, else, with `last`, of the last row of a page, turned().

import { shortcut } from "./keys.js";

const OUTCOMES = { s: "success", f: "failure", u: "unknown" };
const MARK = "lefleet-mark"; // where the next page's mark stands: "first" or "last"
let added = false;

// Once for the page, about the element that is there when a key is pressed.
function addKeys(mayLabel) {
  if (added) return;
  added = true;
  const add = (key, what, run) =>
    shortcut(key, what, (event) => {
      const selection = document.querySelector("lf-selection");
      if (selection?.turning) return; // the old rows are no longer meant
      return selection ? run(selection, event) : false;
    });
  add("j", "Next episode", (here) => here.step(1));
  add("k", "Episode before", (here) => here.step(-1));
  add("Home", "First on this page", (here) => here.go(0));
  add("e", "Last on this page", (here) => here.go(here.rows.length - 1));
  add("Enter", "Open the episode", (here, { target }) => (target.closest("a, button") ? false : here.row?.click()));
  if (!mayLabel) return;
  add(" ", "Choose the episode", (here, { target }) => (target.closest("a, button") ? false : here.toggle(here.row)));
  add("a", "Choose all on this page, or none", (here) => here.all());
  add("Escape", "Choose none", (here) => here.forget());
  for (const [key, outcome] of Object.entries(OUTCOMES)) add(key, `Label as ${outcome}`, (here) => here.judge(outcome));
  add("l", "Write a note", (here) => here.querySelector("input").focus());
}

class Selection extends HTMLElement {
  connectedCallback() {
    this.chosen = new Set();
    this.at = null; // the marked episode's id; none until a key is pressed
    this.order = []; // ids of the rows as last shown
    this.turning = null; // the next page's address, while it is waited for
    this.ended = false; // whether the last of all was judged
    addKeys(this.getAttribute("may-label") === "yes");
    this.onClick = (event) => this.click(event);
    document.addEventListener("click", this.onClick, true);
    // The server builds the rows anew after each change.
    this.observer = new MutationObserver(() => this.show());
    this.observer.observe(document.querySelector(".lf-table"), { childList: true, subtree: true });
    const mark = sessionStorage.getItem(MARK);
    sessionStorage.removeItem(MARK);
    if (mark) this.go(mark === "first" ? 0 : this.rows.length - 1);
    else this.show();
  }

  disconnectedCallback() {
    document.removeEventListener("click", this.onClick, true);
    this.observer.disconnect();
  }

  get rows() {
    return [...document.querySelectorAll("a.lf-row")];
  }

  get row() {
    return this.rows.find((row) => row.dataset.episode === this.at);
  }

  get place() {
    return this.order.indexOf(this.at);
  }

  // What a change is about: the chosen rows, or else the one at the keyboard's place.
  get ids() {
    if (this.chosen.size) return [...this.chosen];
    return this.at ? [this.at] : [];
  }

  click(event) {
    const check = event.target.closest(".lf-check");
    if (check) {
      event.preventDefault(); // the row is a link
      event.stopPropagation();
      this.toggle(check.closest("a.lf-row"));
      return;
    }
    const button = event.target.closest("[data-do]");
    if (!button || !this.contains(button)) return;
    const [what, word] = button.dataset.do.split(":");
    if (what === "judge") this.judge(word === "none" ? null : word);
    else if (what === "forget") this.forget();
  }

  go(place) {
    const rows = this.rows;
    this.at = rows[Math.max(0, Math.min(place, rows.length - 1))]?.dataset.episode ?? null;
    this.ended = false;
    this.show();
    this.row?.scrollIntoView({ block: "nearest" });
  }

  // To the next page past the last row, and to the one before past the first.
  step(by) {
    if (!this.at) return this.go(by > 0 ? 0 : this.order.length - 1);
    const place = this.place + by;
    if (place >= 0 && place < this.order.length) return this.go(place);
    this.turning = this.page(by > 0 ? "Older" : "Newer");
    if (this.turning) this.turned(by > 0 ? "first" : "last");
  }

  // The address of the page before or after this one; null without one.
  page(name) {
    const links = [...document.querySelectorAll(".lf-pager a:not(.is-off)")];
    return links.find((each) => each.textContent.includes(name))?.href ?? null;
  }

  turned(mark = "first") {
    if (!this.turning) return;
    sessionStorage.setItem(MARK, mark);
    location.assign(this.turning);
  }

  // On this page; the mark goes back to an episode whose label was not saved.
  stay(id) {
    this.turning = null;
    if (id) this.at = id;
    this.ended = false;
    this.show();
  }

  toggle(row) {
    if (!row) return;
    const id = row.dataset.episode;
    if (!this.chosen.delete(id)) this.chosen.add(id);
    this.show();
  }

  all() {
    const ids = this.rows.map((row) => row.dataset.episode);
    if (ids.every((id) => this.chosen.has(id))) this.chosen.clear();
    else for (const id of ids) this.chosen.add(id);
    this.show();
  }

  forget() {
    this.chosen.clear();
    this.show();
  }

  // Without a choice one episode after another, at one key each; past the last row on the next page.
  judge(outcome) {
    const ids = this.ids;
    if (!ids.length || this.turning) return;
    if (this.chosen.size) return this.tell("judge", { ids, outcome });
    const last = this.place === this.order.length - 1;
    this.turning = last ? this.page("Older") : null;
    this.tell("judge", { ids, outcome, last: Boolean(this.turning) });
    if (!last) return this.go(this.place + 1);
    if (this.turning) return this.show();
    this.at = null;
    this.ended = true;
    this.show();
  }

  // Called by the input: what was typed is about the rows that were chosen when it was left.
  remark(note) {
    this.tell("remark", { ids: this.ids, note });
  }

  tell(name, detail) {
    if (detail.ids.length) this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  show() {
    const rows = this.rows;
    const ids = rows.map((row) => row.dataset.episode);
    const here = new Set(ids);
    for (const id of this.chosen) if (!here.has(id)) this.chosen.delete(id); // only what is seen is changed
    if (this.at && !here.has(this.at)) this.at = this.after(ids, here);
    this.order = ids;
    for (const row of rows) {
      row.classList.toggle("is-at", row.dataset.episode === this.at);
      row.querySelector(".lf-check")?.setAttribute("aria-checked", this.chosen.has(row.dataset.episode));
    }
    const count = this.chosen.size;
    this.dataset.chosen = count;
    const said = this.querySelector(".lf-selection-said");
    const how = matchMedia("(pointer: coarse)").matches ? "Tick episodes to judge them" : "Choose with J, K and Space";
    const one = this.turning ? "To the next page…" : this.at ? "This episode" : this.ended ? "That was the last one" : how;
    const words = count ? `${count} chosen` : one;
    if (said && said.textContent !== words) said.textContent = words;
  }

  // The row that stood after the marked one, which is gone: the next that is still there, or what follows those before.
  after(ids, here) {
    const next = this.order.slice(this.place + 1).find((id) => here.has(id));
    if (next) return next;
    const before = this.order.slice(0, this.place).findLast((id) => here.has(id));
    return before ? (ids[ids.indexOf(before) + 1] ?? null) : null;
  }
}
customElements.define("lf-selection", Selection);

// A select tells what was picked as the event that it names, with the rows that it may be about.
document.addEventListener("change", (event) => {
  const select = event.target.closest("lf-selection select[data-event]");
  if (!select || !select.value) return;
  const selection = select.closest("lf-selection");
  selection.dispatchEvent(new CustomEvent(select.dataset.event, { detail: { ids: selection.ids, word: select.value } }));
  select.value = "";
});

// A page that comes back from the browser's memory is not being left any more.
addEventListener("pageshow", (event) => event.persisted && document.querySelector("lf-selection")?.stay());

document.addEventListener("keydown", (event) => {
  const input = event.target.closest("lf-selection input");
  if (!input || !["Enter", "Escape"].includes(event.key)) return;
  if (event.key === "Enter") input.closest("lf-selection").remark(input.value.trim());
  input.value = "";
  input.blur();
});
