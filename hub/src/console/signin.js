// Signing in with a token or a link, and signing out.

import { address, hasToken, json, keepToken, Refused } from "./api.js";
import { copyButton, el, text } from "./dom.js";
import { connect, live } from "./live.js";
import { stopAll } from "./run.js";
import * as store from "./store.js";

/** Goes in with the token that is kept. Returns `{ message, status }` if that fails; the hub's status, if it answered. */
export async function enter() {
  try {
    await connect();
  } catch (error) {
    const { status } = error;
    if (!(error instanceof Refused)) return { message: "The hub cannot be reached. Check the network and try again." };
    return { status, message: status === 401 ? "The hub does not know this token: it is wrong, expired or revoked. Ask an admin for a new one." : `The hub says: ${error.message}.` };
  }
  return undefined;
}

/** The form that asks for a token, with a `message` of why. */
export function signInForm(message) {
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
    const failed = await enter();
    if (failed === undefined) return;
    keepToken(null);
    button.disabled = false;
    text(trouble, failed.message);
    field.setAttribute("aria-invalid", "true");
    field.select();
  };
  const node = card("form", { onsubmit: submit },
    el("label", { for: "token" }, "Token"), field,
    el("p.hint", { id: "hint" }, "From an admin, made with ", el("code", {}, "virtual-llm token create"), ". It stays in this tab."),
    trouble, button);
  text(trouble, message);
  return { node, focus: () => field.focus() };
}

const card = (kind, props, ...children) => el(`${kind}.sign-in.card`, props,
  el("img", { src: "console/icon.svg", alt: "", width: 48, height: 48 }), el("h1", {}, "virtual-llm"), ...children);

/** Gives the code of a sign-in link for its token, after a click: programs that look at links in messages click nothing, so they do not use it up. Calls `taken()` when it has the token, shows that, and then calls `done()`. */
export function linkForm(code, taken, done) {
  const trouble = el("p.trouble", { role: "alert" });
  const button = el("button", { type: "submit" }, "Sign in");
  const submit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    text(trouble, "");
    try {
      const made = await json("POST", "api/v1/sign-in", { secret: code });
      keepToken(made.token);
      taken();
      const go = el("button", { type: "button", onclick: done }, "Go on");
      node.replaceWith(card("section", {}, el("p", { role: "status" }, `You are signed in as ${made.user}. This is your token, shown this once:`),
        el("div.row", {}, el("output.secret.mono", {}, made.token), copyButton(() => made.token, "Copy the token")),
        el("p.hint", {}, "It stays in this tab until you close it. Programs send it as their key; the command line takes it with ",
          el("code", {}, `virtual-llm login ${made.hubUrl ?? address}`), "."),
        go));
      go.focus();
    } catch (error) {
      button.disabled = false;
      if (!(error instanceof Refused)) return text(trouble, "The hub cannot be reached. Check the network and try again.");
      text(trouble, `${error.message.charAt(0).toUpperCase()}${error.message.slice(1)}.`);
      if (error.status !== 401) return;
      button.remove();
      instead.hidden = false;
      instead.focus();
    }
  };
  const instead = el("button.quiet", { type: "button", hidden: !hasToken(), onclick: done }, "Go on without it");
  const node = card("form", { onsubmit: submit }, el("p", {}, "This link signs you in at this hub. It works once."),
    hasToken() && el("p.hint", {}, "Its token takes the place of the one in this tab."), trouble, button, instead);
  return { node, focus: () => button.focus() };
}

/** Asks whether the conversations stay in this browser, if there are any; then calls `out()`. */
export async function signOut(out) {
  const { user } = live.caller;
  const kept = await store.list(user).catch(() => []);
  if (!kept.length) return out();
  const title = el("h2", { id: "leaving" }, "Sign out");
  const end = (then) => async () => {
    dialog.close();
    dialog.remove();
    await then?.();
  };
  const forget = end(async () => {
    // An answer that is stopped is stored once more, which must not come after.
    const stopped = stopAll();
    out();
    await stopped;
    await store.clear(user).catch(() => {});
  });
  const many = kept.length === 1 ? "One conversation is" : `${kept.length} conversations are`;
  const dialog = el("dialog.card", { "aria-labelledby": "leaving", onclose: end() }, title,
    el("p", {}, `${many} stored in this browser, readable to everybody who uses it.`),
    el("div.row", {}, el("button", { type: "button", "data-sign-out": "keep", autofocus: true, onclick: end(out) }, "Keep them and sign out"),
      el("button.quiet.danger", { type: "button", "data-sign-out": "delete", onclick: forget }, "Delete them and sign out"),
      el("button.quiet", { type: "button", onclick: end() }, "Cancel")));
  document.body.append(dialog);
  dialog.showModal();
}
