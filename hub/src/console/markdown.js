// Markdown as trees, in pieces as an answer grows: `[tag, attributes, ...children]`, text as strings. No HTML is made and
// none is taken: HTML in Markdown is text, so there is nothing to sanitise. This file knows no DOM and runs in the worker.

import { chunks } from "./highlight.js";
import { Lexer } from "./vendor/marked-18.2.1.js";

const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0", hellip: "…", mdash: "—", ndash: "–", copy: "©", reg: "®", trade: "™", times: "×", middot: "·", bull: "•", deg: "°", larr: "←", rarr: "→", le: "≤", ge: "≥", ne: "≠", euro: "€" };

/** Text with its character references resolved, as CommonMark has it; an unknown one stays as it is. */
function plain(text) {
  return text.replace(/&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|([a-zA-Z]{2,8}));/g, (whole, decimal, hex, name) => {
    if (name) return Object.hasOwn(ENTITIES, name) ? ENTITIES[name] : whole;
    const code = decimal ? Number(decimal) : Number.parseInt(hex, 16);
    return code > 0 && code <= 0x10ffff ? String.fromCodePoint(code) : "\ufffd";
  });
}

/** An address that a link may have: of a page or a mailbox, never of a script. Others are undefined. */
export function safe(href) {
  try {
    const url = new URL(plain(href));
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : undefined;
  } catch {
    return undefined;
  }
}

/** A link that opens in a new tab. One with another kind of address is its text alone. */
function link(href, children) {
  const address = safe(href);
  return address ? ["a", { href: address, target: "_blank", rel: "noopener noreferrer nofollow" }, ...children] : ["span", null, ...children];
}

const INLINE = {
  text: (token) => (token.tokens ? ["span", null, ...inline(token.tokens)] : plain(token.text)),
  escape: (token) => token.text,
  html: (token) => (/^<br\s*\/?>$/i.test(token.raw) ? ["br", null] : token.raw),
  strong: (token) => ["strong", null, ...inline(token.tokens)],
  em: (token) => ["em", null, ...inline(token.tokens)],
  del: (token) => ["del", null, ...inline(token.tokens)],
  codespan: (token) => ["code", null, token.text],
  br: () => ["br", null],
  link: (token) => link(token.href, inline(token.tokens)),
  // A picture is never fetched: its address could tell a stranger what was said.
  image: (token) => link(token.href, [`🖼 ${plain(token.text) || "image"}`]),
  checkbox: (token) => (token.checked ? "☑ " : "☐ "),
};

function inline(tokens) {
  const nodes = [];
  for (const token of tokens ?? []) {
    const node = (INLINE[token.type] ?? ((other) => other.raw))(token);
    if (typeof node === "string" && typeof nodes.at(-1) === "string") nodes.push(nodes.pop() + node);
    else if (node !== "") nodes.push(node);
  }
  return nodes;
}

const cells = (tag, row) => row.map((cell) => [tag, { class: cell.align ? `to-${cell.align}` : undefined }, ...inline(cell.tokens)]);

const BLOCKS = {
  heading: (token) => [`h${Math.min(6, token.depth + 2)}`, null, ...inline(token.tokens)],
  paragraph: (token) => ["p", null, ...inline(token.tokens)],
  text: (token) => ["span", null, ...(token.tokens ? inline(token.tokens) : [plain(token.text)])],
  html: (token) => ["p", { class: "raw" }, token.raw.trim()],
  hr: () => ["hr", null],
  code: (token) => ["pre", { lang: (token.lang ?? "").split(/\s/)[0] }, ...chunks(token.text, token.lang)],
  blockquote: (token) => ["blockquote", null, ...blocks(token.tokens)],
  list: (token) => [token.ordered ? "ol" : "ul", { start: token.ordered && token.start !== 1 ? token.start : undefined },
    ...token.items.map((item) => ["li", { class: item.task ? "task" : undefined }, ...blocks(item.tokens)])],
  table: (token) => ["div", { class: "scroll" }, ["table", null, ["thead", null, ["tr", null, ...cells("th", token.header)]],
    ["tbody", null, ...token.rows.map((row) => ["tr", null, ...cells("td", row)])]]],
};

/** The trees of block tokens. Those that show nothing (blank lines, definitions of links) have none. */
function blocks(tokens) {
  const nodes = [];
  for (const token of tokens) {
    if (token.type === "space" || token.type === "def") continue;
    if (token.type === "checkbox") nodes.push(INLINE.checkbox(token));
    else nodes.push((BLOCKS[token.type] ?? ((other) => ["p", null, other.raw]))(token));
  }
  return nodes;
}

/** The number of tokens before the last block. Blank lines behind that block belong to it: it may go on after them. */
function finished(tokens) {
  let count = tokens.length;
  while (count > 0 && tokens[count - 1].type === "space") count -= 1;
  return Math.max(0, count - 1);
}

/** A text that grows. Only its last block, which further text may still change, is read again; the cost of a piece is that of this block, not of the whole text. */
export class Growing {
  #open = "";
  /** The addresses that the text has given names. */
  #links = {};

  /** Adds a piece: the trees of the blocks that it finished, and those of the open rest. `end` finishes all. */
  add(piece, end = false) {
    let open = (this.#open + piece).replace(/\r(?:\n|(?!$))/g, "\n");
    let tokens = this.#lex(open);
    if (end) return { closed: blocks(tokens), open: [] };
    let closed = [];
    if (finished(tokens)) {
      // A line that is not whole ends no block: `2` after a list becomes its next item with `. `.
      const lines = this.#lex(open.slice(0, open.lastIndexOf("\n") + 1));
      closed = lines.slice(0, finished(lines));
      if (closed.length) {
        open = open.slice(closed.reduce((sum, token) => sum + token.raw.length, 0));
        tokens = this.#lex(open);
      }
    }
    const trees = { closed: blocks(closed), open: blocks(tokens) };
    this.#open = open;
    return trees;
  }

  /** The text of the open block; a piece that the parser could not take is not in it. */
  get rest() {
    return this.#open;
  }

  #lex(text) {
    const lexer = new Lexer();
    lexer.tokens.links = this.#links;
    return lexer.lex(text);
  }
}
