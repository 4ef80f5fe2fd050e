// Code in colours, as trees of spans in chunks of lines. This file knows no DOM and runs in the worker.

import hljs from "./vendor/highlight-11.12.0.js";

/** Lines in a chunk. A chunk is a block of its own, so that a line that is added lays out no more than this. */
const LINES = 40;
/** Most characters of a block that are coloured, about 800 lines: each line of an open block costs the whole of it again. */
const MOST = 32_768;

/** Runs of one colour: `[scope or undefined, text]`. The innermost scope wins. */
function runs(node, scope, found) {
  for (const child of node.children) {
    if (typeof child === "string") found.push([scope, child]);
    else runs(child, child.scope ?? scope, found);
  }
  return found;
}

function coloured(code, lang) {
  const language = (lang ?? "").trim().split(/[\s,{:]/)[0].toLowerCase();
  if (!language || !hljs.getLanguage(language)) return [[undefined, code]];
  const end = code.length <= MOST ? code.length : code.lastIndexOf("\n", MOST) + 1 || MOST;
  try {
    const found = runs(hljs.highlight(code.slice(0, end), { language, ignoreIllegals: true })._emitter.rootNode, undefined, []);
    if (end < code.length) found.push([undefined, code.slice(end)]);
    return found;
  } catch {
    return [[undefined, code]];
  }
}

/** The code as `["span", { class: "chunk" }, …]`, each of at most `LINES` lines. */
export function chunks(code, lang) {
  const done = [];
  let [chunk, lines] = [[], 0];
  const add = (scope, text) => {
    if (!text) return;
    if (scope) chunk.push(["span", { class: `hl-${scope.split(".")[0]}` }, text]);
    else if (typeof chunk.at(-1) === "string") chunk.push(chunk.pop() + text);
    else chunk.push(text);
  };
  for (const [scope, text] of coloured(code, lang)) {
    let from = 0;
    for (let at = text.indexOf("\n"); at !== -1; at = text.indexOf("\n", at + 1)) {
      if (++lines % LINES) continue;
      add(scope, text.slice(from, at + 1));
      done.push(["span", { class: "chunk" }, ...chunk]);
      chunk = [];
      from = at + 1;
    }
    add(scope, text.slice(from));
  }
  if (chunk.length || !done.length) done.push(["span", { class: "chunk" }, ...chunk]);
  return done;
}
