// Pieces of cards and rows. Each writes to the page only what changed.

import { meter, STOP_TONES, tone, wanted, words } from "./model.js";

const STOP_ICON =
  '<span class="lf-icon"><svg viewBox="0 0 24 24" aria-hidden="true"><path d="M8.500 3.500h7l5 5v7l-5 5h-7l-5-5v-7z"/>' +
  '<path d="M9 9h6v6H9z" fill="currentColor"/></svg></span>';
export const DENIED = "Emergency stops need the role operator";

export function make(tag, className = "", attributes = {}, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function set(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

export const iso = (ms) => (ms == null ? "" : new Date(ms).toISOString());
export const address = (row) => `/robots/${encodeURIComponent(row.id)}`;

export function chip() {
  const element = make("span", "lf-chip");
  return {
    element,
    show(text, ofTone) {
      write(element, text);
      set(element, "data-tone", ofTone);
    },
  };
}

export function stateChip() {
  const made = chip();
  return { element: made.element, show: (row) => made.show(words(row.state), tone(row.state)) };
}

export function bar(label) {
  const fill = make("i");
  const element = make("span", "lf-meter", { role: "meter", "aria-label": label, "aria-valuemin": "0", "aria-valuemax": "100" }, fill);
  return {
    element,
    show(part) {
      const shown = (100 * Math.min(Math.max(part ?? 0, 0), 1)).toFixed(1);
      if (element.getAttribute("aria-valuenow") === shown) return;
      set(element, "aria-valuenow", shown);
      set(element, "data-tone", meter(part ?? 0));
      fill.style.width = `${shown}%`;
    },
  };
}

// The checkbox of a robot; `fleet` keeps which are chosen.
export function check(fleet, id) {
  const box = make("input", "lf-robot-check", { type: "checkbox", "aria-label": `Select ${id}` });
  box.addEventListener("click", (event) => fleet.select(id, box.checked, event.shiftKey));
  return { element: box, show: () => (box.checked = fleet.selected.has(id)) };
}

function button(text, className, label, fleet, press) {
  const made = make("button", `lf-button ${className}`, { type: "button", "aria-label": label });
  if (className.includes("is-danger")) made.innerHTML = STOP_ICON;
  made.append(make("span", "", {}, text));
  if (fleet.mayStop) made.addEventListener("click", press);
  else {
    made.disabled = true;
    made.title = DENIED;
  }
  return made;
}

// The emergency stop of one robot: a button, or how far it has got and who asked.
export function stopRow(fleet, id, small = false) {
  const state = chip();
  const by = make("span");
  const at = make("lf-time", "", { look: "ago", datetime: "" });
  const who = make("div", "lf-stop-who lf-cut", {}, by, at);
  const said = make("div", "lf-stop-said", {}, state.element, who);
  const stop = () => fleet.emit("stop", [id]);
  const press = button(small ? "Stop" : "Emergency stop", "is-danger", `Emergency stop of ${id}`, fleet, stop);
  const release = button("Release", "", `Release ${id}`, fleet, () => fleet.release([id]));
  const note = make("div", "lf-stop-note", {}, "It does not answer. Stop it at the robot; it obeys once it is back.");
  const element = make("div", "lf-stop", {}, said, press, release, note);
  return {
    element,
    show(row) {
      const [stopState, , asker, askedAt] = row.stop;
      set(element, "data-stop", stopState);
      said.hidden = stopState === "free";
      press.hidden = wanted(row);
      release.hidden = !wanted(row);
      state.show(words(stopState), STOP_TONES[stopState]);
      who.hidden = !asker || small;
      write(by, `by ${asker}, `);
      set(at, "datetime", iso(askedAt));
      note.hidden = small || row.online || stopState !== "stopping";
    },
  };
}

const VERDICTS = [
  ["success", "it succeeded"],
  ["failure", "it failed"],
  ["unknown", "nobody can say how it went"],
  ["redo", "it does not count and is to be done again"],
];

// How the running episode went: four buttons, or what was said until it has ended.
export function verdictRow(fleet, id) {
  let now = null;
  const buttons = make("div", "lf-segments", { role: "group", "aria-label": `How the episode of ${id} went` });
  for (const [word, meaning] of VERDICTS) {
    const title = `End the episode: ${meaning}`;
    const made = make("button", "lf-segment", { type: "button", title, "aria-label": `${title} (${id})` }, words(word));
    if (fleet.mayStop) made.addEventListener("click", () => fleet.emit("verdict", [id, now.episode, word]));
    else {
      made.disabled = true;
      made.title = "Ending an episode needs the role operator";
    }
    buttons.append(made);
  }
  const state = chip();
  const by = make("span");
  const at = make("lf-time", "", { look: "ago", datetime: "" });
  const said = make("div", "lf-stop-said", {}, state.element, make("div", "lf-stop-who lf-cut", {}, by, at));
  const element = make("div", "lf-verdict", {}, make("span", "lf-verdict-name", {}, "End episode"), buttons, said);
  return {
    element,
    show(row) {
      now = row;
      element.hidden = !row.episode;
      buttons.hidden = Boolean(row.verdict);
      said.hidden = !row.verdict;
      if (!row.verdict) return;
      const [word, who, when] = row.verdict;
      state.show(`Ending: ${word}`, "warn");
      write(by, `by ${who}, `);
      set(at, "datetime", iso(when));
    },
  };
}

export function issues() {
  const element = make("div", "lf-issues");
  let shown = "";
  return {
    element,
    show(row) {
      const found = row.online ? row.issues : row.issues.slice(1); // the chip says offline
      const text = JSON.stringify(found);
      if (text === shown) return;
      shown = text;
      element.replaceChildren(...found.map(([ofTone, what]) => make("span", "lf-issue", { "data-tone": ofTone }, what)));
    },
  };
}
