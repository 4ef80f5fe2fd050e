// Images for models that see them: made smaller in this browser, kept as `data:` URLs. They are drawn on canvases, so that the content policy need not allow images of any address.

/** Longest side of what is sent, in pixels: models that see scale larger ones down themselves. */
const LONGEST = 1536;
/** Longest side of a preview, in pixels. */
const PREVIEW = 160;
/** Most images of a question. */
export const MOST = 4;

/** The files among dropped or pasted things that are images. */
export const imagesOf = (files) => [...(files ?? [])].filter((file) => file.type.startsWith("image/"));

function drawn(bitmap, longest) {
  const scale = Math.min(1, longest / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas;
}

/** A file as a `data:` URL; PNG stays PNG (screenshots have sharp edges), the rest becomes JPEG. */
export async function fromFile(file) {
  const bitmap = await createImageBitmap(file);
  const kind = file.type === "image/png" ? "image/png" : "image/jpeg";
  return drawn(bitmap, LONGEST).toDataURL(kind, 0.85);
}

/** A canvas with a small picture of a `data:` URL; it is empty until that is decoded. */
export function preview(url) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "Attached image");
  const [head, data = ""] = url.split(",");
  (async () => {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    const bitmap = await createImageBitmap(new Blob([bytes], { type: head.slice(5).split(";")[0] }));
    const small = drawn(bitmap, PREVIEW);
    canvas.width = small.width;
    canvas.height = small.height;
    canvas.getContext("2d").drawImage(small, 0, 0);
  })().catch(() => canvas.classList.add("broken"));
  return canvas;
}
