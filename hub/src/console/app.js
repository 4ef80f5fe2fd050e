// The console: signing in and out, and which page is shown.

import { hasToken, keepToken, Refused, whenRefused } from "./api.js";
import { chat, forget } from "./chat.js";
import { el, text } from "./dom.js";
import { connect, disconnect, live, watch } from "./live.js";
import { llm } from "./llm.js";
import { overview } from "./overview.js";
import { tokens } from "./tokens.js";

const PAGES = new Map(Object.entries({ overview, chat, llm, tokens }));

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

function open({ focus = true } = {}) {
  if (!live.caller) return;
  let [name, argument] = place();
  if (!PAGES.has(name) || (name === "tokens" && live.caller.role !== "admin")) name = "overview";
  const page = PAGES.get(name)(argument);
  show(page.node, page.leave);
  document.title = `${page.title} · virtual-llm`;
  for (const entry of bar.querySelectorAll("nav a")) {
    if (entry.dataset.page === name) entry.setAttribute("aria-current", "page");
    else entry.removeAttribute("aria-current");
  }
  if (focus) main.focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

function signIn(message) {
  disconnect();
  forget();
  keepToken(null);
  bar.hidden = true;
  document.title = "Sign in · virtual-llm";
  const field = el("input", { id: "token", type: "password", autocomplete: "off", required: true, spellcheck: "false", "aria-describedby": "hint trouble" });
  const trouble = el("p.trouble", { id: "trouble", role: "alert" });
  const button = el("button", { type: "submit" }, "Sign in");
  const submit = async (event) => {
    event.preventDefault();
    const secret = field.value.trim();
    // A token is visible ASCII; anything else could not be sent in a header.
    if (!/^[\x21-\x7e]+$/.test(secret)) return text(trouble, "A token has no spaces and no special characters.");
    button.disabled = true;
    text(trouble, "");
    keepToken(secret);
    const why = await enter();
    if (why === undefined) return;
    keepToken(null);
    button.disabled = false;
    text(trouble, why);
    field.setAttribute("aria-invalid", "true");
    field.select();
  };
  const form = el("form.sign-in.card", { onsubmit: submit },
    el("img", { src: "console/icon.svg", alt: "", width: 48, height: 48 }),
    el("h1", {}, "virtual-llm"),
    el("label", { for: "token" }, "Token"), field,
    el("p.hint", { id: "hint" }, "From an admin, made with ", el("code", {}, "virtual-llm token create"), ". It stays in this tab."),
    trouble, button);
  show(form);
  text(trouble, message);
  field.focus();
}

/** Goes in with the token that is kept; the reason if the hub does not let us. */
async function enter() {
  try {
    await connect();
  } catch (error) {
    if (!(error instanceof Refused)) return "The hub cannot be reached.";
    return error.status === 401 ? "The hub does not know this token: it is wrong, expired or revoked." : `The hub says: ${error.message}.`;
  }
  return undefined;
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
    bar.querySelector('[data-page="tokens"]').hidden = live.caller.role !== "admin";
    open();
  }
});

// A screen reader hears what changes on any page.
let statuses = new Map();
watch(() => {
  const now = new Map(Object.values(live.llms).map((row) => [row.name, row.waking ? "waking" : row.status]));
  const news = [...now].filter(([name, status]) => statuses.has(name) && statuses.get(name) !== status);
  if (news.length) text(document.getElementById("news"), news.map(([name, status]) => `${name} is ${status}`).join(", "));
  statuses = now;
});

function leaveHub(message) {
  shown = false;
  signIn(message);
}

whenRefused(() => {
  if (shown) leaveHub("Signed out: the token is no longer valid.");
});
window.addEventListener("hashchange", () => open());
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
document.getElementById("sign-out").addEventListener("click", () => leaveHub());

if (hasToken()) {
  enter().then((why) => {
    if (why !== undefined) signIn(why);
  });
} else signIn();
