// What a person reads of an answer: text, reasoning, a refusal, calls of tools, and why it ended.

/** The text of a value: a string, or a list of parts of which `kinds` count (no type counts as text). */
function textOf(value, kinds) {
  if (typeof value === "string") return value;
  if (!Array.isArray(value)) return "";
  return value.map((part) => (typeof part === "string" ? (kinds.includes("text") ? part : "") : partOf(part, kinds))).join("");
}

function partOf(part, kinds) {
  const kind = typeof part?.type === "string" ? part.type : "text";
  if (!kinds.some((wanted) => kind === wanted || kind.startsWith(`${wanted}.`))) return "";
  return textOf(part.text ?? part.thinking ?? part.reasoning ?? part.summary ?? part.refusal ?? "", ["text", ...kinds]);
}

const TEXT = ["text", "output_text"];
const THOUGHT = ["thinking", "reasoning"];

/** The parts of a `delta` or a `message`. */
export function read(message) {
  const { content } = message ?? {};
  const thought = [message?.reasoning_content, message?.reasoning, message?.thinking, message?.reasoning_details, message?.thinking_blocks];
  return {
    text: textOf(content, TEXT),
    thought: thought.map((value) => textOf(value, ["text", ...THOUGHT])).find(Boolean) ?? (Array.isArray(content) ? textOf(content, THOUGHT) : ""),
    refusal: typeof message?.refusal === "string" ? message.refusal : Array.isArray(content) ? textOf(content, ["refusal"]) : "",
    calls: Array.isArray(message?.tool_calls) ? message.tool_calls : message?.function_call ? [{ function: message.function_call }] : [],
  };
}

/** Most calls of one answer, and most characters of one, that are shown: nobody reads more. */
const MOST_CALLS = 100;
const MOST_SHOWN = 5000;

/** Puts the pieces of calls together: a piece continues the call of its index, or of its id, else the last one. */
export function collect(calls, pieces) {
  for (const { index, id, function: { name, arguments: given } = {} } of pieces) {
    let call = calls.find((known) => (index !== undefined ? known.index === index : id && known.id === id));
    // What follows a call that is left out is left out, too.
    if (!call && index === undefined && !id && !name) call = calls.skips ? undefined : calls.at(-1);
    calls.skips = !call && calls.length >= MOST_CALLS;
    if (calls.skips) continue;
    if (!call) calls.push((call = { index, id, name: "", given: "" }));
    if (name) call.name = name;
    if (given !== undefined && given !== null) call.given += typeof given === "string" ? given : JSON.stringify(given);
  }
}

/** A call as a person reads it. */
export const shown = ({ name, given }) => `${name || "?"}(${given.length > MOST_SHOWN ? `${given.slice(0, MOST_SHOWN)} …` : given})`;

/** Why an answer is empty, or not whole; nothing where it is as it should be. */
export function why({ content, thought, refusal, calls, finish }) {
  const said = content || refusal || calls?.length;
  if (finish === "length" || finish === "max_tokens") {
    return said ? "Cut off: the limit of tokens was reached." : `No answer: the limit of tokens was reached${thought ? " while the model was thinking" : ""}.`;
  }
  if (finish === "content_filter") return said ? "Cut off by a content filter." : "No answer: a content filter held it back.";
  if (refusal && !content) return "The model refused.";
  if (calls?.length && !content) return "The model calls a tool instead of answering.";
  if (said) return undefined;
  if (finish === "tool_calls") return "No answer: the model wanted to call a tool and named none.";
  if (thought) return "No answer: the model thought and said nothing.";
  return `No answer: the model said nothing${finish ? ` (${finish})` : ""}.`;
}
