// Where questions are written: text, images, send and stop.

import { el, text } from "./dom.js";
import { fromFile, imagesOf, MOST, preview } from "./images.js";

/** A form; `ask(question)` sends `{ content, images }` and returns whether it was taken, `stop()` ends the answer, and `drafted(question)` gets what is written after each change. */
export function composer({ ask, stop, drafted }) {
  const field = el("textarea", { id: "message", rows: 2, placeholder: "Ask something", "aria-describedby": "keys", autocapitalize: "sentences" });
  const files = el("input", { type: "file", accept: "image/*", multiple: true, hidden: true });
  const attach = el("button.quiet", { type: "button", hidden: true, onclick: () => files.click() }, "Attach image");
  const send = el("button", { type: "submit" }, "Send");
  const halt = el("button.stop", { type: "button", hidden: true, onclick: stop }, "Stop");
  const shelf = el("ul.images", { "aria-label": "Attached images", hidden: true });
  const status = el("p.note.status", { role: "status", "aria-live": "polite" });
  const node = el("form.ask", {}, shelf, el("label.hidden", { for: "message" }, "Message"), field,
    el("div.row", {}, status, files, attach, el("span.note.keys", { id: "keys" }, "Enter sends, Shift+Enter breaks the line"), halt, send));
  let images = [];
  let [running, sees] = [false, false];

  const noted = () => drafted({ content: field.value, images });
  const drawShelf = () => {
    shelf.hidden = !images.length;
    shelf.replaceChildren(...images.map((url, index) => el("li", {}, preview(url),
      el("button.plain-button", { type: "button", "aria-label": `Remove image ${index + 1}`, onclick: () => (images.splice(index, 1), drawShelf(), noted(), field.focus()) }, "✕"))));
  };
  const add = async (found) => {
    // Another conversation may be shown before an image is read.
    const question = images;
    for (const file of found) {
      if (question.length >= MOST) {
        text(status, `A question takes ${MOST} images.`);
        break;
      }
      try {
        const image = await fromFile(file);
        if (question !== images) return;
        question.push(image);
      } catch {
        text(status, `${file.name} is no image that this browser can read.`);
      }
    }
    drawShelf();
    noted();
  };
  const submit = () => {
    const question = { content: field.value.trim(), images: sees ? images : [] };
    if (running || (!question.content && !question.images.length) || !ask(question)) return;
    field.value = "";
    images = [];
    drawShelf();
    noted();
  };

  field.addEventListener("input", noted);
  node.addEventListener("submit", (event) => (event.preventDefault(), submit()));
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    submit();
  });
  files.addEventListener("change", () => add(imagesOf(files.files)).then(() => (files.value = "")));
  const take = (event, data) => {
    const found = sees ? imagesOf(data?.files) : [];
    if (!found.length) return;
    event.preventDefault();
    add(found);
  };
  field.addEventListener("paste", (event) => take(event, event.clipboardData));
  node.addEventListener("dragover", (event) => sees && event.preventDefault());
  node.addEventListener("drop", (event) => take(event, event.dataTransfer));

  return {
    node,
    focus: () => field.focus(),
    /** Shows a question that was begun. */
    fill(draft) {
      images = draft?.images ?? [];
      if (field.value !== (draft?.content ?? "")) field.value = draft?.content ?? "";
      drawShelf();
    },
    say: (said) => text(status, said),
    running(now) {
      running = now;
      send.hidden = now;
      halt.hidden = !now;
    },
    /** Whether the chosen model sees images. */
    vision(now) {
      sees = now;
      attach.hidden = !now;
      shelf.hidden = !now || !images.length;
    },
  };
}
