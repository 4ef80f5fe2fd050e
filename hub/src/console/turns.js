// Questions and answers as elements of the conversation.

import { shown } from "./answer.js";
import { copyButton, el, text } from "./dom.js";
import { count, millis, rate } from "./format.js";
import { preview } from "./images.js";
import { Markdown } from "./render.js";

const action = (label, name, onclick, what = "button.plain-button") => el(what, { type: "button", "aria-label": name, onclick }, label);

/** A question, with its own copy and edit. `edit(content)` asks it anew; without it there is no such button. */
export function questionView(question, edit) {
  const said = el("p.said", {}, question.content);
  const images = el("div.images", {}, (question.images ?? []).map(preview));
  const tools = el("div.tools", {}, copyButton(() => question.content, "Copy the question"));
  const node = el("article.user", { "aria-label": "You" }, images, said, tools);
  if (edit) tools.append(action("Edit", "Edit the question", () => node.replaceWith(editor(node, question, edit))));
  return { node, dispose() {} };
}

function editor(node, question, edit) {
  const field = el("textarea", { rows: 4, "aria-label": "The question" });
  field.value = question.content;
  const back = () => {
    form.replaceWith(node);
    node.querySelector("button:last-child").focus();
  };
  const submit = (event) => {
    event.preventDefault();
    if (field.value.trim()) edit(field.value.trim());
  };
  const form = el("form.user.editor", { onsubmit: submit }, field,
    el("div.row", {}, el("button", { type: "submit" }, "Ask anew"), el("button.quiet", { type: "button", onclick: back }, "Cancel"),
      el("span.note", {}, "What follows is replaced.")));
  form.addEventListener("keydown", (event) => {
    if (event.target === field && event.key === "Enter" && !event.shiftKey && !event.isComposing) return submit(event);
    if (event.key !== "Escape") return;
    event.stopPropagation();
    back();
  });
  queueMicrotask(() => field.focus());
  return form;
}

/** What is known of an answer, in a line: its speed, its tokens, who wrote it. */
function facts({ model, row, firstMs, speed, usage, running }) {
  if (running) return "";
  return [row ? `${model} → ${row}` : model, firstMs !== undefined && `first token after ${millis(firstMs)}`, speed && `${rate(speed)} tokens a second`,
    usage?.output && `${count(usage.output)} tokens`].filter(Boolean).join(" · ");
}

/** An answer that may still grow: `update()` shows what came. `again` asks for it once more (the style shows its button at the last one alone), `changed` tells of a new height. */
export function answerView(answer, { again, changed }) {
  const parts = {
    summary: el("summary"), thought: el("div.thought"), said: el("div.said.markdown"), refusal: el("p.refusal"),
    calls: el("ul.calls", { "aria-label": "Tool calls" }), note: el("p.note"), trouble: el("p.trouble"), facts: el("span.note.facts-line"),
  };
  const thinking = el("details.thinking", { hidden: true }, parts.summary, parts.thought);
  const retry = action("Again", "Ask for this answer again", again, "button.plain-button.again");
  const copy = copyButton(() => answer.content || answer.refusal, "Copy the answer");
  const tools = el("div.tools", {}, copy, retry, parts.facts);
  const node = el("article.assistant", { "aria-label": `Answer of ${answer.model}`, "aria-busy": answer.running ? "true" : undefined },
    thinking, parts.said, parts.refusal, parts.calls, parts.note, parts.trouble, tools);
  const markdown = new Markdown(parts.said, changed);
  const thoughts = document.createTextNode("");
  parts.thought.append(thoughts);
  let [read, calls, ended] = [0, 0, false];

  const update = () => {
    const { thought, content, refusal } = answer;
    if (thought) {
      thinking.hidden = false;
      if (thought.length > thoughts.length) thoughts.appendData(thought.slice(thoughts.length));
      text(parts.summary, answer.thoughtMs !== undefined ? `Thought for ${millis(answer.thoughtMs)}` : answer.running ? "Thinking …" : "Thought");
    }
    if (content.length > read) markdown.append(content.slice(read));
    read = content.length;
    text(parts.refusal, refusal);
    const now = answer.calls.reduce((sum, { name, given }) => sum + name.length + given.length, answer.calls.length);
    if (now !== calls) parts.calls.replaceChildren(...answer.calls.map((call) => el("li.mono", {}, shown(call))));
    calls = now;
    if (!answer.running && !ended) {
      ended = true;
      markdown.end();
      node.removeAttribute("aria-busy");
      copy.hidden = !content && !refusal;
      text(parts.note, answer.note);
      text(parts.trouble, answer.failed);
      text(retry, answer.failed ? "Try again" : "Again");
      text(parts.facts, facts(answer));
    }
    changed();
  };
  update();
  return { node, update, dispose: () => markdown.dispose() };
}
