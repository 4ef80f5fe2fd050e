// Signing in with a token, and signing out.

import { keepToken, Refused } from "./api.js";
import { el, text } from "./dom.js";
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
  const node = el("form.sign-in.card", { onsubmit: submit },
    el("img", { src: "console/icon.svg", alt: "", width: 48, height: 48 }),
    el("h1", {}, "virtual-llm"),
    el("label", { for: "token" }, "Token"), field,
    el("p.hint", { id: "hint" }, "From an admin, made with ", el("code", {}, "virtual-llm token create"), ". It stays in this tab."),
    trouble, button);
  text(trouble, message);
  return { node, focus: () => field.focus() };
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
    el("div.row", {}, el("button", { type: "button", "data-sign-out": "keep", autofocus: true, onclick: end(out) }, "Keep"),
      el("button.quiet.danger", { type: "button", "data-sign-out": "delete", onclick: forget }, "Delete"),
      el("button.quiet", { type: "button", onclick: end() }, "Cancel")));
  document.body.append(dialog);
  dialog.showModal();
}
