// Elements from data. Text becomes text nodes, never markup: nothing here takes HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An element: `el("button.quiet", { type: "button", onclick }, "Text", child)`. */
export function el(what, props, ...children) {
  const [tag, ...classes] = what.split(".");
  const node = document.createElement(tag);
  if (classes.length) node.className = classes.join(" ");
  return fill(node, props, children);
}

/** The same for SVG. */
export const svg = (tag, props, ...children) => fill(document.createElementNS(SVG, tag), props, children);

function fill(node, props, children) {
  for (const [key, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== false));
  return node;
}

/** Sets an element's text if it is another one: a screen reader hears only what changed. */
export function text(node, value) {
  const said = String(value ?? "");
  if (node.textContent !== said) node.textContent = said;
  return node;
}

/** Makes `parent`'s children stand for `items`, in their order. An item's element stays as long as the item does, so that focus and selection do. `make(item)` gives `{ node, update(item) }`. */
export function keyed(parent, make) {
  const known = new Map();
  return (items, keyOf) => {
    const wanted = new Set();
    let at = parent.firstChild;
    for (const item of items) {
      const key = keyOf(item);
      wanted.add(key);
      let entry = known.get(key);
      if (!entry) known.set(key, (entry = make(item)));
      entry.update(item);
      if (entry.node === at) at = at.nextSibling;
      else parent.insertBefore(entry.node, at);
    }
    for (const [key, entry] of known) {
      if (wanted.has(key)) continue;
      entry.node.remove();
      known.delete(key);
    }
  };
}

/** Wait between two steps while the page is hidden, where no frames come, in ms. */
const HIDDEN = 250;

/** Calls `step` in the next frame. */
export function nextFrame(step) {
  if (document.hidden) setTimeout(step, HIDDEN);
  else requestAnimationFrame(step);
}

/** A status as a coloured word. */
export function pill() {
  const node = el("span.pill");
  return {
    node,
    set(word, tone = word) {
      text(node, word);
      if (node.dataset.tone !== tone) node.dataset.tone = tone;
    },
  };
}

/** A text into the clipboard; false if the browser does not allow it. Pages without TLS have no `navigator.clipboard`. */
export async function copy(value) {
  try {
    await navigator.clipboard.writeText(value);
    return true;
  } catch {
    const field = el("textarea.hidden", { "aria-hidden": "true", tabindex: "-1" });
    const focused = document.activeElement;
    field.value = value;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    focused?.focus({ preventScroll: true });
    return done;
  }
}

/** A button that copies what `value()` returns. */
export function copyButton(value, label) {
  const button = el("button.plain-button", { type: "button", "aria-label": label }, "Copy");
  button.addEventListener("click", async () => {
    const said = (await copy(value())) ? "Copied" : "Not allowed";
    text(button, said);
    announce(said);
    setTimeout(() => text(button, "Copy"), 1500);
  });
  return button;
}

/** Has a screen reader say something. */
export function announce(said) {
  text(document.getElementById("news"), said);
}
