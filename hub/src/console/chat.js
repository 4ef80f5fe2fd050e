// Chat with an LLM, a pool or an agent. The conversation lives in this tab's memory and is gone when it closes.

import { collect, read, shown, why } from "./answer.js";
import { events, json, reason, request } from "./api.js";
import { el, text } from "./dom.js";
import { millis, rate } from "./format.js";

/** The conversation outlasts a look at another page. */
let conversation = [];
let chosen = "";

/** Forgets everything: another user may sign in. */
export function forget() {
  conversation = [];
  chosen = "";
}

export function chat(wanted) {
  if (wanted) chosen = wanted;
  let running;
  const log = el("div.log", { role: "log", "aria-label": "Conversation", tabindex: "0" });
  const model = el("select", { id: "model" });
  const field = el("textarea", { id: "message", rows: 3, placeholder: "Ask something", "aria-describedby": "keys" });
  const send = el("button", { type: "submit" }, "Send");
  const stop = el("button.quiet", { type: "button", hidden: true, onclick: () => running?.abort() }, "Stop");
  const clear = el("button.quiet", { type: "button", onclick: () => (running?.abort(), (conversation = []), draw(), field.focus()) }, "Clear");
  const status = el("p.note", { role: "status", "aria-live": "polite" });
  const form = el("form.ask", { onsubmit: (event) => (event.preventDefault(), ask()) },
    el("label.hidden", { for: "message" }, "Message"), field,
    el("div.row", {}, send, stop, clear, el("span.note.grow", { id: "keys" }, "Enter sends, Shift+Enter breaks the line")));
  const node = el("div.chat.card", {}, el("div.row", {}, el("h1", {}, "Chat"), el("label", { for: "model" }, "with"), model), log, status, form);

  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    ask();
  });
  model.addEventListener("change", () => (chosen = model.value));

  const bubble = ({ role, content, thought, refusal, calls, note, failed }) => {
    const parts = {
      thought: el("p.thought", { "aria-label": "Reasoning" }, thought),
      said: el("p.said", {}, content),
      refusal: el("p.refusal", {}, refusal),
      calls: el("ul.calls", { "aria-label": "Tool calls" }, (calls ?? []).map((call) => el("li.mono", {}, shown(call)))),
      note: el("p.note", {}, note),
    };
    const node = el(`article.${role}`, {}, el("h2", {}, role === "user" ? "You" : "Answer"), ...(role === "user" ? [parts.said] : Object.values(parts)), failed && el("p.trouble", {}, failed));
    log.append(node);
    return { node, parts };
  };
  const bottom = () => (log.scrollTop = log.scrollHeight);
  const draw = () => {
    log.replaceChildren();
    conversation.forEach(bubble);
    if (!conversation.length) log.append(el("p.empty", {}, "Nothing said yet."));
    bottom();
  };
  draw();

  json("GET", "v1/models").then(
    ({ data }) => {
      const names = data.map((entry) => entry.id);
      // One that sleeps or is away may be asked for all the same: the hub says what it thinks of it.
      if (chosen && !names.includes(chosen)) names.unshift(chosen);
      chosen ||= names[0] ?? "";
      model.replaceChildren(...names.map((name) => el("option", { value: name, selected: name === chosen }, name)));
      if (!names.length) text(status, "No model is there now.");
    },
    (error) => text(status, `The models cannot be listed: ${error.message}.`),
  );

  async function ask() {
    const content = field.value.trim();
    if (!content || running || !chosen) return;
    if (!conversation.length) log.replaceChildren();
    const question = { role: "user", content };
    conversation.push(question);
    bubble(question);
    field.value = "";
    const answer = { role: "assistant", content: "", thought: "", refusal: "", calls: [] };
    const { node, parts } = bubble(answer);
    node.setAttribute("aria-busy", "true");
    bottom();
    running = new AbortController();
    send.disabled = true;
    stop.hidden = false;
    text(status, "Waiting for the first token …");
    const began = performance.now();
    const mine = conversation;
    try {
      const { first, tokens, last } = await stream(answer, parts, running.signal);
      const speed = tokens > 1 ? `, ${rate((tokens - 1) / Math.max(0.001, (last - first) / 1000))} tokens a second` : "";
      answer.note = why(answer);
      text(parts.note, answer.note);
      text(status, first ? `First token after ${millis(first - began)}${speed}.` : "An empty answer.");
    } catch (error) {
      const stopped = running.signal.aborted;
      answer.failed = stopped ? "Stopped." : `Failed: ${error.message}.`;
      node.append(el("p.trouble", stopped ? {} : { role: "alert" }, answer.failed));
      text(status, "");
    }
    node.removeAttribute("aria-busy");
    if (mine === conversation) conversation.push(answer);
    running = undefined;
    send.disabled = false;
    stop.hidden = true;
    bottom();
  }

  /** Writes the answer as it comes. Without its end mark it counts as broken off. */
  async function stream(answer, parts, signal) {
    const messages = conversation.filter((turn) => turn.content).map(({ role, content }) => ({ role, content }));
    const body = { model: chosen, messages, stream: true, stream_options: { include_usage: true } };
    const response = await request("POST", "v1/chat/completions", { body, signal });
    let [first, last, tokens] = [undefined, undefined, 0];
    const grow = (name, key, piece) => {
      if (!piece) return;
      if (!parts[name].firstChild) parts[name].append("");
      parts[name].lastChild.appendData(piece);
      answer[key] += piece;
    };
    for await (const { data } of events(response)) {
      if (data === "[DONE]") return { first, last, tokens };
      const failed = reason(data);
      if (failed) throw new Error(failed);
      const choice = JSON.parse(data).choices?.[0];
      if (choice?.finish_reason) answer.finish = choice.finish_reason;
      // A backend that streams nothing sends one whole message.
      const piece = read(choice?.delta ?? choice?.message);
      if (!piece.text && !piece.thought && !piece.refusal && !piece.calls.length) continue;
      last = performance.now();
      text(status, piece.thought && !answer.content ? "Thinking …" : "Answering …");
      first ??= last;
      tokens += 1;
      const following = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
      grow("thought", "thought", piece.thought);
      grow("said", "content", piece.text);
      grow("refusal", "refusal", piece.refusal);
      if (piece.calls.length) {
        collect(answer.calls, piece.calls);
        parts.calls.replaceChildren(...answer.calls.map((call) => el("li.mono", {}, shown(call))));
      }
      if (following) bottom();
    }
    throw new Error("the answer broke off");
  }

  return { title: "Chat", node, leave: () => running?.abort() };
}
