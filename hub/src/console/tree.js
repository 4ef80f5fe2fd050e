// Trees of markdown.js as elements, changed in place as they grow: what stays the same is not touched.

import { copyButton, el } from "./dom.js";

/** The element or text of a tree. */
export function build(tree) {
  if (typeof tree === "string") return document.createTextNode(tree);
  const [tag, props, ...children] = tree;
  if (tag === "pre") return codeBlock(props.lang, children);
  const node = el(tag, props);
  for (const child of children) node.append(build(child));
  return node;
}

/** A block of code under a line with its language and a button that copies it. */
function codeBlock(lang, children) {
  const code = el("code", {}, children.map(build));
  const name = lang || "text";
  return el("figure.code", {}, el("figcaption", {}, el("span", {}, name), copyButton(() => code.textContent, `Copy the code (${name})`)),
    el("pre", { tabindex: "0", role: "group", "aria-label": `Code, ${name}` }, code));
}

/** Where the children of an element's tree are. */
const inside = (node, tag) => (tag === "pre" ? node.querySelector("code") : node);

function same(one, other) {
  if (typeof one === "string" || typeof other === "string") return one === other;
  return one.length === other.length && sameProps(one[1], other[1]) && one.every((part, index) => index === 1 || same(part, other[index]));
}

function sameProps(one, other) {
  const keys = Object.keys(one ?? {});
  return keys.length === Object.keys(other ?? {}).length && keys.every((key) => one[key] === other[key]);
}

/** Changes `parent`'s children from the trees `old` to the trees `now`. `from` is the index of the first child. */
export function patch(parent, old, now, from = 0) {
  for (let index = 0; index < now.length; index += 1) {
    const [before, after] = [old[index], now[index]];
    const node = parent.childNodes[from + index];
    if (before === undefined) parent.append(build(after));
    else if (same(before, after)) continue;
    else if (typeof before === "string" && typeof after === "string") {
      if (after.startsWith(before)) node.appendData(after.slice(before.length));
      else node.data = after;
    } else if (typeof after !== "string" && before[0] === after[0] && sameProps(before[1], after[1])) {
      patch(inside(node, after[0]), before.slice(2), after.slice(2));
    } else node.replaceWith(build(after));
  }
  for (let index = old.length; index > now.length; index -= 1) parent.childNodes[from + index - 1].remove();
}
