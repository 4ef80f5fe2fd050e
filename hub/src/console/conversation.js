// A conversation as data: exchanges of a question and its answer, what is sent of them, and how they change.

/** Most characters of a title. */
const TITLE = 60;

/** Parameters of a request: member, label, attributes of its field. Empty ones are not sent: the model's own hold. */
export const PARAMETERS = [
  ["temperature", "Temperature", { min: 0, max: 2, step: 0.1 }],
  ["top_p", "Top p", { min: 0, max: 1, step: 0.05 }],
  ["max_tokens", "Most tokens", { min: 1, step: 1 }],
  ["seed", "Seed", { min: 0, step: 1 }],
];

/** Values of `reasoning_effort` that models know. */
export const EFFORTS = ["none", "low", "medium", "high"];

/** Pages without TLS have no `crypto.randomUUID`. */
export const newId = () => crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;

export function fresh(user, model = "") {
  return { id: newId(), user, title: "", updated: Date.now(), model, system: "", parameters: {}, exchanges: [] };
}

/** The title of a conversation that begins with this question. */
export function titleOf(question) {
  const line = question.content.trim().split("\n")[0].replace(/\s+/g, " ") || (question.images?.length ? "Image" : "");
  return line.length > TITLE ? `${line.slice(0, TITLE - 1)}…` : line;
}

/** What an answer says to the next question: its text, or its refusal. A failed or empty one says nothing. */
export const said = (answer) => answer?.content || answer?.refusal || "";

function asked({ content, images = [] }, vision) {
  if (!vision || !images.length) return { role: "user", content };
  const pictures = images.map((url) => ({ type: "image_url", image_url: { url } }));
  return { role: "user", content: content ? [{ type: "text", text: content }, ...pictures] : pictures };
}

/** The messages of a call for the answer of the last exchange. A question that got no answer is not sent again. */
export function messages({ system, exchanges }, vision) {
  const earlier = exchanges.slice(0, -1).filter(({ answer }) => said(answer));
  const turns = earlier.flatMap(({ question, answer }) => [asked(question, vision), { role: "assistant", content: said(answer) }]);
  const first = system?.trim() ? [{ role: "system", content: system.trim() }] : [];
  return [...first, ...turns, asked(exchanges.at(-1).question, vision)];
}

/** The body of that call. */
export function body(conversation, vision) {
  const wanted = Object.entries(conversation.parameters).filter(([, value]) => value !== undefined && value !== "" && value !== null);
  return { model: conversation.model, messages: messages(conversation, vision), ...Object.fromEntries(wanted), stream: true, stream_options: { include_usage: true } };
}

/** What is set, as one line; empty if nothing is. */
export function settingsOf({ system, parameters }) {
  const known = [...PARAMETERS, ["reasoning_effort", "Reasoning"]];
  const set = known.filter(([name]) => parameters[name] !== undefined && parameters[name] !== "").map(([name, label]) => `${label.toLowerCase()} ${parameters[name]}`);
  return [system?.trim() && "system prompt", ...set].filter(Boolean).join(", ");
}

/** A stored conversation as this page goes on with it: an answer that is not whole was written by a page that is gone, or by another tab. */
export function revived(conversation) {
  for (const { answer } of conversation.exchanges) {
    if (!answer?.running) continue;
    delete answer.running;
    answer.failed = "Broken off, or still being written in another tab.";
  }
  return conversation;
}
