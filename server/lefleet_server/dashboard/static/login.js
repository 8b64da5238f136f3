// Logs in by password, or by the one-time code of a link once a person really sees the page.

const parameters = new URLSearchParams(location.search);
const form = document.getElementById("form");
const note = document.getElementById("note");
const button = form.querySelector("button");

/** Only paths of this server: a log-in link must not lead elsewhere. */
function target() {
  const next = new URL(parameters.get("next") ?? "/", location.origin);
  return next.origin === location.origin ? next.pathname + next.search + next.hash : "/";
}

function say(text) {
  note.textContent = text;
  note.hidden = !text;
}

async function logIn(credentials) {
  button.disabled = true;
  say("");
  try {
    const response = await fetch("/api/v1/login", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(credentials),
    });
    if (response.ok) return location.replace(target());
    say(await reason(response));
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // fetch says TypeError when nobody answers
    say("The server does not answer. Check the network and try again.");
  }
  button.disabled = false;
}

async function reason(response) {
  const detail = (await response.json().catch(() => null))?.detail ?? `The server answered ${response.status}.`;
  return detail.charAt(0).toUpperCase() + detail.slice(1) + (detail.endsWith(".") ? "" : ".");
}

/** Resolves when a person looks at the page: not while it is prerendered or in a tab nobody opened. */
async function seen() {
  if (document.prerendering) await new Promise((done) => document.addEventListener("prerenderingchange", done, { once: true }));
  while (document.visibilityState !== "visible") {
    await new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
  }
}

async function spend(code) {
  document.getElementById("title").textContent = "Logging you in…";
  form.hidden = true;
  await seen();
  await logIn({ code });
  if (note.hidden) return;
  history.replaceState(null, "", "/login"); // a spent code is of no use in the history
  document.getElementById("title").textContent = "Log in";
  form.hidden = false;
}

const provider = document.getElementById("provider");
if (provider) provider.search = new URLSearchParams({ next: target() });

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const { username, password } = Object.fromEntries(new FormData(form));
  logIn({ username, password });
});

if (parameters.get("code")) spend(parameters.get("code"));
