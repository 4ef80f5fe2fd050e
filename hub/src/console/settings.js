// System prompt and parameters of a conversation.

import { EFFORTS, PARAMETERS, settingsOf } from "./conversation.js";
import { el, text } from "./dom.js";

/** A folded form of `conversation`'s settings; `changed()` is called after each change. */
export function settingsForm(conversation, changed) {
  const summary = el("summary");
  const trouble = el("p.trouble", { role: "alert" });
  const system = el("textarea", { id: "system", rows: 3, placeholder: "What the model should know before the first question" });
  system.value = conversation.system;
  const draw = () => text(summary, `Settings${settingsOf(conversation) ? `: ${settingsOf(conversation)}` : ""}`);
  const set = (name, value) => {
    if (value === "") delete conversation.parameters[name];
    else conversation.parameters[name] = value;
    draw();
    changed();
  };
  const numbers = PARAMETERS.map(([name, label, limits]) => {
    const field = el("input", { id: `set-${name}`, type: "number", inputmode: "decimal", placeholder: "default", ...limits });
    field.value = conversation.parameters[name] ?? "";
    field.addEventListener("change", () => {
      // What is not valid is not sent, and marked.
      const valid = field.reportValidity();
      field.setAttribute("aria-invalid", String(!valid));
      text(trouble, valid ? "" : `${label}: not sent, since it has to be from ${limits.min ?? "any"} to ${limits.max ?? "any number"}.`);
      set(name, valid && field.value !== "" ? Number(field.value) : "");
    });
    return el("div.field", {}, el("label", { for: field.id }, label), field);
  });
  const effort = el("select", { id: "set-reasoning" }, el("option", { value: "" }, "default"), EFFORTS.map((value) => el("option", { value }, value)));
  effort.value = conversation.parameters.reasoning_effort ?? "";
  effort.addEventListener("change", () => set("reasoning_effort", effort.value));
  system.addEventListener("input", () => {
    conversation.system = system.value;
    draw();
  });
  system.addEventListener("change", changed);
  draw();
  return el("details.settings", {}, summary, el("div.settings-body", {},
    el("div.field", {}, el("label", { for: "system" }, "System prompt"), system),
    el("div.row", {}, numbers, el("div.field", {}, el("label", { for: "set-reasoning" }, "Reasoning effort"), effort)),
    trouble, el("p.note", {}, "Of this conversation alone. An empty field leaves it to the model.")));
}
