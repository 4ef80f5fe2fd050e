// The console: which page is shown. A page is a function of the address's argument and its name that returns
// `{ title, node, leave() }`, with `wide` if it takes the whole window and `arrived()` if it moves the focus; its link is in index.html.

import { hasToken, keepToken, whenRefused } from "./api.js";
import { chat, forget } from "./chat.js";
import { announce, el, text } from "./dom.js";
import { disconnect, live, watch } from "./live.js";
import { llm } from "./llm.js";
import { stateOf } from "./models.js";
import { overview } from "./overview.js";
import { enter, linkForm, signInForm, signOut } from "./signin.js";
import { tokens } from "./tokens.js";
import { usage } from "./usage.js";

const PAGES = new Map(Object.entries({
  overview,
  chat,
  talk: chat,
  llm,
  usage,
  tokens,
}));

/** Pages that stand under another one's link. */
const UNDER = new Map([["talk", "chat"], ["llm", "overview"]]);

/** Pages of admins. */
const ADMINS = new Set(["tokens"]);

const main = document.getElementById("main");
const bar = document.getElementById("bar");
const link = document.getElementById("link");
let leave = () => {};

function show(node, left = () => {}) {
  leave();
  leave = left;
  main.replaceChildren(node);
}

/** `#/llm/NAME` → the page and its argument. */
function place() {
  const [page = "", ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  try {
    return [page || "overview", decodeURIComponent(rest.join("/"))];
  } catch {
    return ["overview", ""];
  }
}

const allowed = (name) => PAGES.has(name) && (!ADMINS.has(name) || live.caller.role === "admin");

function open() {
  if (!live.caller) return;
  let [name, argument] = place();
  if (!allowed(name)) [name, argument] = ["overview", ""];
  leave();
  leave = () => {};
  const page = PAGES.get(name)(argument, name);
  document.body.classList.toggle("wide", Boolean(page.wide));
  show(page.node, page.leave);
  document.title = `${page.title} · virtual-llm`;
  for (const entry of bar.querySelectorAll("nav a")) {
    if (entry.dataset.page === (UNDER.get(name) ?? name)) entry.setAttribute("aria-current", "page");
    else entry.removeAttribute("aria-current");
  }
  main.focus({ preventScroll: true });
  window.scrollTo(0, 0);
  page.arrived?.();
}

/** Shows a form in the place of the pages. */
function outside(form) {
  shown = false;
  disconnect();
  bar.hidden = true;
  document.title = "Sign in · virtual-llm";
  document.body.classList.remove("wide");
  show(form.node);
  form.focus();
}

function signIn(message) {
  keepToken(null);
  forget();
  outside(signInForm(message));
}

/** Takes the code of a sign-in link out of the address, so that nobody copies it from there. The browser's history keeps it. */
function byLink() {
  const [page, code] = place();
  if (page !== "sign-in" || !code) return false;
  history.replaceState(null, "", "#/");
  outside(linkForm(code, forget, begin));
  return true;
}

let shown = false;
watch(() => {
  text(link, live.state === "live" ? "Live" : "Reconnecting …");
  link.dataset.tone = live.state;
  if (!live.caller) {
    shown = false;
  } else if (!shown) {
    shown = true;
    bar.hidden = false;
    text(document.getElementById("user"), live.caller.user);
    for (const entry of bar.querySelectorAll("nav a")) entry.hidden = !allowed(entry.dataset.page);
    open();
  }
});

/** Names that one announcement has; of more, their number. */
const SPOKEN = 5;

// A screen reader hears what changes on any page.
let statuses = new Map();
watch(() => {
  // Whether a place is free changes with each call: that is not said.
  const now = new Map(Object.values(live.llms).map((row) => [row.name, stateOf({ ...row, room: null })]));
  const news = [...now].filter(([name, status]) => statuses.has(name) && statuses.get(name) !== status);
  if (news.length > SPOKEN) announce(`${news.length} models changed their state`);
  else if (news.length) announce(news.map(([name, status]) => `${name} is ${status}`).join(", "));
  statuses = now;
});

whenRefused(() => {
  if (shown) signIn("Signed out: the token is no longer valid.");
});
window.addEventListener("hashchange", () => byLink() || open());
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
document.getElementById("sign-out").addEventListener("click", () => signOut(() => signIn()));

/** Goes on with the token of this tab. Only a hub that refuses it has it forgotten, not one that cannot be reached. */
async function resume() {
  const trouble = await enter();
  if (trouble === undefined) return;
  if (trouble.status === 401) return signIn(trouble.message);
  show(el("section.sign-in.card", {}, el("h1", {}, "virtual-llm"), el("p.trouble", { role: "alert" }, trouble.message),
    el("button", { type: "button", onclick: resume }, "Try again"), el("button.quiet", { type: "button", onclick: () => signIn() }, "Use another token")));
}

/** Begins with the token of this tab, or asks for one. */
const begin = () => (hasToken() ? resume() : signIn());

if (!byLink()) begin();
