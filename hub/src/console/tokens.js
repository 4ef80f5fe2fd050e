// Tokens, for admins: list with their limits and those of users, create (the secret is shown once), revoke.

import { address, json } from "./api.js";
import { copyButton, el, pill, text } from "./dom.js";
import { ago, moment } from "./format.js";
import { limits, limitsCard } from "./limits.js";

const DAY = 86_400_000;

const past = (moment) => Boolean(moment) && Date.parse(moment) < Date.now();

export function tokens() {
  const trouble = el("p.trouble", { role: "alert" });
  const user = el("input", { id: "user-name", required: true, maxlength: 100, pattern: "[A-Za-z0-9][A-Za-z0-9._@+\\-]*", autocomplete: "off", spellcheck: "false" });
  const role = el("select", { id: "role" }, el("option", { value: "member" }, "member"), el("option", { value: "admin" }, "admin"));
  const days = el("select", { id: "days" }, el("option", { value: "" }, "never"), [7, 30, 90, 365].map((n) => el("option", { value: n }, `in ${n} days`)));
  const fresh = el("div.fresh", { role: "status", "aria-live": "polite" });
  const body = el("tbody");
  const table = el("table.table-tokens", { "aria-labelledby": "tokens" }, el("thead", {}, el("tr", {},
    ["User", "State", "Role", "Id", "Created", "Expires", "Limits", "Action"].map((label) => el("th", { scope: "col" }, label)))), body);
  let mayUse = limitsCard("Limits of users", []);
  const heading = el("h2", { id: "tokens", tabindex: "-1" }, "All tokens");
  const labelled = (label, field) => el("div.field", {}, el("label", { for: field.id }, label), field);
  const node = el("div.stack", {}, el("h1", {}, "Tokens"),
    el("section.card", { "aria-labelledby": "new" }, el("h2", { id: "new" }, "New token"),
      el("form.row", { onsubmit: create }, labelled("User", user), labelled("Role", role), labelled("Expires", days), el("button", { type: "submit" }, "Create"),
        el("button.quiet", { type: "submit", value: "link" }, "Create a sign-in link")),
      fresh, trouble), mayUse,
    el("section.card", {}, heading, table));

  const attempt = async (what) => {
    text(trouble, "");
    try {
      await what();
    } catch (error) {
      text(trouble, `${error.message}.`);
    }
  };

  const list = () => attempt(async () => {
    const [answer, users] = await Promise.all(["tokens", "users"].map((path) => json("GET", `api/v1/${path}`)));
    body.replaceChildren(...answer.map(row));
    const now = limitsCard("Limits of users", users.map((user) => [user.name, user]));
    mayUse.replaceWith(now);
    mayUse = now;
  });

  async function create(event) {
    event.preventDefault();
    await attempt(async () => {
      const wanted = { user: user.value.trim(), role: role.value };
      if (days.value) wanted.expiresAt = new Date(Date.now() + days.value * DAY).toISOString();
      if (event.submitter?.value === "link") wanted.link = true;
      const made = await json("POST", "api/v1/tokens", { body: wanted });
      const hub = made.hubUrl ?? address;
      const secret = made.token ?? `${hub}/#/sign-in/${made.signInCode}`;
      fresh.replaceChildren(el("p", {}, wanted.link ? `A link for ${wanted.user}. It works once, until ${moment(made.signInUntil)}:` : `The token of ${wanted.user}. It is shown this once:`), el("div.row", {}, el("output.secret.mono", {}, secret),
        copyButton(() => secret, wanted.link ? "Copy the link" : "Copy the token")),
        wanted.link ? el("p", {}, `${wanted.user} opens it in a browser and gets the token there.`)
          : el("p", {}, `${wanted.user} runs this and pastes it: `, el("code.login", {}, `virtual-llm login ${hub}`)));
      user.value = "";
      await list();
    });
  }

  function row(token) {
    const state = pill();
    const ended = token.revokedAt ? "revoked" : past(token.expiresAt) ? "expired" : past(token.signInUntil) ? "not used" : token.signInUntil ? "not used yet" : "valid";
    state.set(ended, ended === "valid" ? "active" : "inactive");
    const cell = (label, ...said) => el("td", { "data-label": label }, ...said);
    const revoke = el("button.quiet.danger", { type: "button" });
    let sure;
    const say = (asked) => {
      sure = asked;
      text(revoke, sure ? "Really?" : "Revoke");
      revoke.setAttribute("aria-label", `${sure ? "Really revoke" : "Revoke"} the token of ${token.user}`);
    };
    say(false);
    revoke.addEventListener("click", ({ detail }) => {
      // A second click on the same button confirms, but not that of a double click; leaving it takes the question back.
      if (!sure || detail > 1) return say(true);
      return attempt(async () => {
        await json("DELETE", `api/v1/tokens/${encodeURIComponent(token.id)}`);
        fresh.replaceChildren();
        await list();
        heading.focus();
      });
    });
    revoke.addEventListener("blur", () => say(false));
    revoke.addEventListener("keydown", ({ key }) => key === "Escape" && say(false));
    return el("tr", {}, el("th", { scope: "row" }, token.user), cell("State", state.node), cell("Role", token.role),
      cell("Id", el("span.mono.clip", { title: token.id }, token.id)), cell("Created", ago(token.createdAt)),
      cell("Expires", token.expiresAt ? moment(token.expiresAt) : "never"),
      cell("Limits", limits(`Token ${token.id} of ${token.user}`, token) ?? "–"), cell("Action", ["valid", "not used yet"].includes(ended) && token.id !== "environment" ? revoke : "–"));
  }

  list();
  return { title: "Tokens", node, leave() {} };
}
