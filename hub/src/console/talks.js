// The list of conversations: open, rename, delete.

import { el, keyed, text } from "./dom.js";
import { ago } from "./format.js";

/** The list's element. `rename(id, title)` and `remove(id)` do what their buttons say. */
export function talkList({ rename, remove, fresh }) {
  const list = el("ul.talks");
  const none = el("p.empty", {}, "Conversations stay in this browser.");
  const begin = el("button.new-talk", { type: "button", onclick: fresh }, "New conversation");
  const node = el("nav.side", { "aria-label": "Conversations" }, begin, list, none);
  const sync = keyed(list, (head) => talk(head, { rename, remove }));
  let current;
  return {
    node,
    focus: () => begin.focus(),
    draw(heads, id = current) {
      current = id;
      none.hidden = heads.length > 0;
      sync(heads.map((head) => ({ ...head, current: head.id === id })), (head) => head.id);
    },
  };
}

function talk({ id }, { rename, remove }) {
  const link = el("a", { href: `#/talk/${encodeURIComponent(id)}` });
  const when = el("span.note");
  const more = el("details.menu", {}, el("summary", { "aria-label": "Rename or delete" }, "⋯"));
  const node = el("li", {}, link, when, more);
  let head;

  const close = () => (more.open = false);
  const rest = () => [
    el("button.plain-button", { type: "button", onclick: edit }, "Rename"),
    el("button.plain-button.danger", { type: "button", onclick: ask }, "Delete"),
  ];
  const menu = el("div.choices", {}, rest());
  more.append(menu);
  const outside = ({ target }) => more.contains(target) || close();
  more.addEventListener("toggle", () => {
    if (more.open) return document.addEventListener("pointerdown", outside);
    document.removeEventListener("pointerdown", outside);
    menu.replaceChildren(...rest());
  });
  more.addEventListener("focusout", ({ relatedTarget }) => relatedTarget === null || more.contains(relatedTarget) || close());
  more.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !more.open) return;
    event.stopPropagation();
    close();
    more.querySelector("summary").focus();
  });

  function ask() {
    const sure = el("button.plain-button.danger", { type: "button", onclick: () => remove(id) }, "Delete for good");
    menu.replaceChildren(sure);
    sure.focus();
  }

  function edit() {
    close();
    const field = el("input", { "aria-label": "Title", maxlength: 100 });
    field.value = head.title;
    let ended = false;
    const end = (keep) => {
      // Taking the field away blurs it, which ends it again.
      if (ended) return;
      ended = true;
      field.replaceWith(link);
      if (keep && field.value.trim() && field.value.trim() !== head.title) rename(id, field.value.trim());
    };
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter") end(true);
      if (event.key === "Escape") end(false);
      if (event.key === "Enter" || event.key === "Escape") {
        event.stopPropagation();
        link.focus();
      }
    });
    field.addEventListener("blur", () => end(true));
    link.replaceWith(field);
    field.select();
  }

  return {
    node,
    update(now) {
      head = now;
      text(link, head.title || "New conversation");
      text(when, ago(new Date(head.updated).toISOString()));
      node.classList.toggle("current", head.current);
      if (head.current) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    },
  };
}
