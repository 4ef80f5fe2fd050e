// The worker that reads Markdown: whatever an answer contains, it costs the page no time to read it.

import { Growing } from "./markdown.js";

const texts = new Map();

onmessage = ({ data: { id, piece, end } }) => {
  if (!texts.has(id)) texts.set(id, new Growing());
  const growing = texts.get(id);
  if (end) texts.delete(id);
  let trees;
  try {
    trees = growing.add(piece, end);
  } catch {
    // A text that the parser cannot take is shown as it is.
    texts.delete(id);
    trees = { closed: [["p", { class: "raw" }, growing.rest + piece]], open: [] };
  }
  postMessage({ id, ...trees });
};
