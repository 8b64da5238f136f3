// What every page shares: theme switch, log-out, copy buttons, times in the viewer's zone, live pictures.

import "./camera.js";
import "./time.js";
import "./when.js";

function switchTheme() {
  const root = document.documentElement;
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  document.cookie = `lefleet_theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=lax`;
  window.Quasar?.Dark.set(root.dataset.theme === "dark");
  document.dispatchEvent(new CustomEvent("lefleet:theme"));
}

async function logOut() {
  await fetch("/api/v1/logout", { method: "POST" });
  location.assign("/login");
}

async function copy(button) {
  await navigator.clipboard.writeText(button.dataset.copy);
  button.dataset.copied = "";
  setTimeout(() => delete button.dataset.copied, 1500);
}

document.addEventListener("click", (event) => {
  const target = event.target.closest("[data-theme-switch], [data-log-out], [data-copy]");
  if (!target) return;
  if (target.hasAttribute("data-theme-switch")) switchTheme();
  else if (target.hasAttribute("data-log-out")) logOut();
  else copy(target);
});

// An element with data-key="1 s" is pressed by each of these keys, unless a person is typing.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, [contenteditable]")) return;
  document.querySelector(`[data-key~="${CSS.escape(event.key.toLowerCase())}"]:not([disabled], .is-off)`)?.click();
});
