// Keyboard shortcuts. `?` lists those of the page: what scripts registered, and every element with data-key="1 s".

const known = [];

// `key` as the browser names it ("/", "Escape", "j"); `what` for the list; `run` returns false to leave the key alone.
// Without `run` the key is only listed, several with a space between them: whoever listens for it does so itself.
export function shortcut(key, what, run) {
  known.push({ key, what, run });
}

const typing = (target) => target.closest?.("input:not([type=checkbox]), textarea, select, [contenteditable]");
const pressable = (key) => document.querySelector(`[data-key~="${CSS.escape(key)}"]:not([disabled], .is-off)`);

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open], .q-dialog")) return;
  if (typing(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === "?") return list();
  const found = known.find(({ key, run }) => run && key === event.key);
  if (found && found.run(event) !== false) return event.preventDefault();
  pressable(event.key.toLowerCase())?.click();
});

document.addEventListener("click", (event) => event.target.closest("[data-show-keys]") && list());

function list() {
  const pressed = [...document.querySelectorAll("[data-key]")].map((element) => ({
    key: element.dataset.key,
    what: element.getAttribute("aria-label") ?? element.textContent,
  }));
  const dialog = document.createElement("dialog");
  dialog.className = "lf-card lf-dialog";
  const title = Object.assign(document.createElement("h2"), { textContent: "Keyboard shortcuts" });
  const rows = document.createElement("dl");
  rows.className = "lf-keys";
  for (const { key, what } of [...known, ...pressed, { key: "?", what: "This list" }]) {
    const name = document.createElement("dt");
    for (const each of key === " " ? ["Space"] : key.split(" "))
      name.append(Object.assign(document.createElement("kbd"), { textContent: each.length === 1 ? each.toUpperCase() : each }));
    rows.append(name, Object.assign(document.createElement("dd"), { textContent: what }));
  }
  dialog.append(title, rows);
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  document.body.append(dialog);
  dialog.showModal();
}
