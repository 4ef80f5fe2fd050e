// Shows Markdown that grows. A worker reads it; here its trees become elements, in animation frames and a few ms of each.

import { nextFrame } from "./dom.js";
import { build, patch } from "./tree.js";

/** Time for building elements in a frame, in ms: with layout and paint a frame stays well below 50 ms. */
const BUDGET = 8;
/** Most characters that the worker gets at once; a long stored answer comes in several pieces. */
const PIECE = 16_384;

let worker;
let lastId = 0;
const views = new Map();

/** The worker, started once; without one (its file cannot be loaded) the text is shown as it is. */
function reader() {
  if (worker !== undefined) return worker;
  try {
    worker = new Worker(new URL("./markdown-worker.js", import.meta.url), { type: "module" });
    worker.onmessage = ({ data }) => views.get(data.id)?.take(data);
    worker.onerror = () => {
      worker = null;
      for (const view of views.values()) view.fallBack();
    };
  } catch {
    worker = null;
  }
  return worker;
}

// What there is to build, of all views: one frame's budget is for all of them.
const work = [];
let planned = false;

function plan() {
  if (planned) return;
  planned = true;
  nextFrame(() => {
    planned = false;
    const end = performance.now() + BUDGET;
    const changed = new Set();
    while (work.length && performance.now() < end) {
      const [view, step] = work.shift();
      step();
      changed.add(view);
    }
    for (const view of changed) view.changed();
    if (work.length) plan();
  });
}

/** An element that shows a Markdown text which grows. `changed()` is called after each change of it. */
export class Markdown {
  #id = ++lastId;
  #waiting = "";
  #whole = "";
  #asked = false;
  #ended = false;
  /** Children that stay, and the trees of those that follow them. */
  #kept = 0;
  #open = [];

  constructor(node, changed = () => {}) {
    this.node = node;
    this.changed = changed;
    views.set(this.#id, this);
  }

  append(piece) {
    this.#waiting += piece;
    this.#whole += piece;
    this.#ask();
  }

  /** No more text comes. */
  end() {
    this.#ended = true;
    this.#ask();
  }

  /** Lets go of a text that nobody looks at any more. */
  dispose() {
    if (!views.delete(this.#id)) return;
    worker?.postMessage({ id: this.#id, piece: "", end: true });
  }

  /** One piece is at the worker at a time: what comes meanwhile is read at once with the next. */
  #ask() {
    if (this.#asked || !views.has(this.#id)) return;
    if (!reader()) return this.fallBack();
    const piece = this.#waiting.slice(0, PIECE);
    this.#waiting = this.#waiting.slice(PIECE);
    const end = this.#ended && !this.#waiting;
    if (!piece && !end) return;
    this.#asked = true;
    worker.postMessage({ id: this.#id, piece, end });
    if (end) this.#ended = "asked";
  }

  /** Trees from the worker. */
  take({ closed, open }) {
    for (const tree of closed) work.push([this, () => this.#keep(tree)]);
    work.push([this, () => {
      patch(this.node, this.#open, open, this.#kept);
      this.#open = open;
      this.#asked = false;
      if (this.#ended === "asked") views.delete(this.#id);
      else this.#ask();
    }]);
    plan();
  }

  /** A finished block takes the place of the open one. */
  #keep(tree) {
    const [first, ...others] = this.#open;
    if (first === undefined) this.node.append(build(tree));
    else patch(this.node, [first], [tree], this.#kept);
    this.#open = others;
    this.#kept += 1;
  }

  /** Shows the text as it is. */
  fallBack() {
    this.node.classList.add("plain-text");
    this.node.textContent = this.#whole;
    if (this.#ended) views.delete(this.#id);
    this.changed();
  }
}
