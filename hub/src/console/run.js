// Answers that are being written. They go on while another page is shown; the conversation's view follows them by `watch`.

import { advice } from "./advice.js";
import { collect, read, why } from "./answer.js";
import { events, fault, Refused, request } from "./api.js";
import { body } from "./conversation.js";
import { nextFrame } from "./dom.js";
import { save } from "./store.js";

/** How long a call waits for a free place, in seconds. */
const QUEUE = 120;
/** Between two writes of a growing answer to the store, in ms: a reload loses no more. */
const SAVE = 2000;

const runs = new Set();

/** The answer that is being written for a conversation. Its id is asked for each time: the store may give it a new one. */
export const runOf = (id) => [...runs].findLast(({ conversation }) => conversation.id === id);

/** Writes a conversation to the store. One that cannot be kept (the disk is full) still goes on in this tab. */
export async function keep(conversation) {
  conversation.updated = Date.now();
  await save(conversation).catch(() => {});
}

/** Ends all answers. Resolves when what there is of them is stored. */
export function stopAll() {
  const running = [...runs];
  for (const run of running) run.stop();
  return Promise.all(running.map((run) => run.ended));
}

/** Asks for the answer of the last exchange. Watchers are called at most once a frame while it grows, and at its end. `vision`: the model sees images; `wait`: the call may wait for a free place. */
export function start(conversation, { vision, wait }) {
  const exchange = conversation.exchanges.at(-1);
  const answer = { content: "", thought: "", refusal: "", calls: [], model: conversation.model, running: true };
  exchange.answer = answer;
  const run = { conversation, answer, watchers: new Set(), stop: () => abort.abort() };
  const abort = new AbortController();
  let [planned, saved, gone] = [false, performance.now(), false];
  const tell = () => run.watchers.forEach((changed) => changed(answer));
  const changed = () => {
    if (planned) return;
    planned = true;
    nextFrame(() => {
      planned = false;
      // The end is told when it is stored.
      if (!answer.running) return;
      tell();
      if (gone || performance.now() - saved < SAVE) return;
      saved = performance.now();
      keep(conversation);
    });
  };
  run.forget = () => {
    gone = true;
    abort.abort();
  };
  runs.add(run);
  const began = performance.now();
  run.ended = (async () => {
    try {
      const asked = { body: body(conversation, vision), signal: abort.signal, wait: wait ? QUEUE : undefined };
      await stream(await request("POST", "v1/chat/completions", asked), answer, abort.signal, began, changed);
      answer.note = why(answer);
    } catch (error) {
      answer.failed = abort.signal.aborted ? "Stopped." : advice(error);
      answer.stopped = abort.signal.aborted;
    }
    delete answer.running;
    // An answer that is shown as whole is stored as whole, unless the store takes its time.
    if (!gone) await Promise.race([keep(conversation), new Promise((resume) => setTimeout(resume, SAVE))]);
    runs.delete(run);
    tell();
  })();
  run.saved = keep(conversation);
  return run;
}

/** Puts the stream's pieces into `answer`. Without its end mark it counts as broken off. */
async function stream(response, answer, signal, began, changed) {
  const row = response.headers.get("x-virtual-llm-row");
  if (row && row !== answer.model) answer.row = row;
  let [first, tokens] = [undefined, 0];
  try {
    for await (const { data } of events(response)) {
      if (data === "[DONE]") return;
      const { choices, usage, error } = JSON.parse(data);
      if (error) throw new Refused(0, fault(data)?.message ?? "the answer failed", fault(data)?.code);
      if (usage) answer.usage = { input: usage.prompt_tokens, output: usage.completion_tokens };
      const choice = choices?.[0];
      if (choice?.finish_reason) answer.finish = choice.finish_reason;
      // A backend that streams nothing sends one whole message.
      const piece = read(choice?.delta ?? choice?.message);
      if (!piece.text && !piece.thought && !piece.refusal && !piece.calls.length) continue;
      const now = performance.now();
      first ??= now;
      tokens += 1;
      answer.thought += piece.thought;
      answer.content += piece.text;
      answer.refusal += piece.refusal;
      if (piece.text) answer.thoughtMs ??= answer.thought ? now - first : undefined;
      collect(answer.calls, piece.calls);
      answer.firstMs = first - began;
      answer.speed = tokens > 1 ? (tokens - 1) / Math.max(0.001, (now - first) / 1000) : undefined;
      changed();
    }
  } catch (error) {
    throw error instanceof Refused || signal.aborted ? error : Object.assign(new Error("broke off"), { brokeOff: true });
  }
  throw Object.assign(new Error("broke off"), { brokeOff: true });
}
