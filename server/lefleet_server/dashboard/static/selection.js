// <lf-selection may-label="yes|no">: the keyboard's place and the chosen rows of the table of episodes (a.lf-row). Events:
// "judge" {ids, outcome}, "remark" {ids, note}, "collect" {ids, word}; the buttons inside have data-do.

import { shortcut } from "./keys.js";

const OUTCOMES = { s: "success", f: "failure", u: "unknown" };
let added = false;

// Once for the page, about the element that is there when a key is pressed.
function addKeys(mayLabel) {
  if (added) return;
  added = true;
  const add = (key, what, run) =>
    shortcut(key, what, (event) => {
      const selection = document.querySelector("lf-selection");
      return selection ? run(selection, event) : false;
    });
  add("j", "Next episode", (here) => here.step(1));
  add("k", "Episode before", (here) => here.step(-1));
  add("Home", "First on this page", (here) => here.go(0));
  add("e", "Last on this page", (here) => here.go(here.rows.length - 1));
  add("Enter", "Open the episode", (here, { target }) => (target.closest("a, button") ? false : here.rows[here.place]?.click()));
  if (!mayLabel) return;
  add(" ", "Choose the episode", (here, { target }) => (target.closest("a, button") ? false : here.toggle(here.rows[here.place])));
  add("a", "Choose all on this page, or none", (here) => here.all());
  add("Escape", "Choose none", (here) => here.forget());
  for (const [key, outcome] of Object.entries(OUTCOMES)) add(key, `Label as ${outcome}`, (here) => here.judge(outcome));
  add("l", "Write a note", (here) => here.querySelector("input").focus());
}

class Selection extends HTMLElement {
  connectedCallback() {
    this.chosen = new Set();
    this.place = -1; // no row until a key is pressed
    addKeys(this.getAttribute("may-label") === "yes");
    this.onClick = (event) => this.click(event);
    document.addEventListener("click", this.onClick, true);
    // The server builds the rows anew after each change.
    this.observer = new MutationObserver(() => this.show());
    this.observer.observe(document.querySelector(".lf-table"), { childList: true, subtree: true });
    this.show();
  }

  disconnectedCallback() {
    document.removeEventListener("click", this.onClick, true);
    this.observer.disconnect();
  }

  get rows() {
    return [...document.querySelectorAll("a.lf-row")];
  }

  // What a change is about: the chosen rows, or else the one at the keyboard's place.
  get ids() {
    if (this.chosen.size) return [...this.chosen];
    const at = this.rows[this.place];
    return at ? [at.dataset.episode] : [];
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
    this.place = Math.max(0, Math.min(place, this.rows.length - 1));
    this.show();
    this.rows[this.place]?.scrollIntoView({ block: "nearest" });
  }

  // To the next page past the last row, and to the one before past the first.
  step(by) {
    const place = this.place + by;
    if (by > 0 && place >= this.rows.length) this.turn("Older");
    else if (by < 0 && place < 0) this.turn("Newer");
    else this.go(place);
  }

  turn(page) {
    const link = [...document.querySelectorAll(".lf-pager a:not(.is-off)")].find((each) => each.textContent.includes(page));
    if (link) link.click();
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

  judge(outcome) {
    const alone = !this.chosen.size;
    this.tell("judge", { ids: this.ids, outcome });
    if (alone && this.place >= 0) this.go(this.place + 1); // one after another, at one key each
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
    const here = new Set(rows.map((row) => row.dataset.episode));
    for (const id of this.chosen) if (!here.has(id)) this.chosen.delete(id); // only what is seen is changed
    this.place = Math.min(this.place, rows.length - 1);
    rows.forEach((row, place) => {
      row.classList.toggle("is-at", place === this.place);
      row.querySelector(".lf-check")?.setAttribute("aria-checked", this.chosen.has(row.dataset.episode));
    });
    const count = this.chosen.size;
    this.dataset.chosen = count;
    const said = this.querySelector(".lf-selection-said");
    const how = matchMedia("(pointer: coarse)").matches ? "Tick episodes to judge them" : "Choose with J, K and Space";
    const words = count ? `${count} chosen` : this.place >= 0 ? "This episode" : how;
    if (said && said.textContent !== words) said.textContent = words;
  }
}
customElements.define("lf-selection", Selection);

// The select of sets: "add:NAME" and "remove:NAME" are about the chosen rows, "all:NAME" about the filters.
document.addEventListener("change", (event) => {
  const select = event.target.closest("lf-selection select");
  if (!select || !select.value) return;
  const selection = select.closest("lf-selection");
  selection.dispatchEvent(new CustomEvent("collect", { detail: { ids: selection.ids, word: select.value } }));
  select.value = "";
});

document.addEventListener("keydown", (event) => {
  const input = event.target.closest("lf-selection input");
  if (!input || !["Enter", "Escape"].includes(event.key)) return;
  if (event.key === "Enter") input.closest("lf-selection").remark(input.value.trim());
  input.value = "";
  input.blur();
});
