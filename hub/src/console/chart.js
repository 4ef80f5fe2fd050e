// A bar chart of the last tasks, drawn with DOM calls. The numbers are in the table below it: a screen reader gets the
// summary.

import { el, svg } from "./dom.js";

const WIDTH = 480;
const HEIGHT = 120;
/** Room for so many bars: what the hub tells at once. */
const BARS = 50;

export function chart({ title, bars, value, inner, unit, label, legend }) {
  const most = Math.max(1, ...bars.map((bar) => value(bar) ?? 0));
  const step = WIDTH / BARS;
  const left = WIDTH - bars.length * step;
  const rect = (index, size, kind) => {
    const height = Math.max(1.5, (size / most) * HEIGHT);
    return svg("rect", { class: kind, x: left + index * step + 1, y: HEIGHT - height, width: step - 2, height, rx: 1.5 });
  };
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}: ${label}`, preserveAspectRatio: "none" },
    [0.25, 0.5, 0.75].map((part) => svg("line", { class: "grid", x1: 0, x2: WIDTH, y1: HEIGHT * part, y2: HEIGHT * part })),
    bars.flatMap((bar, index) => {
      const size = value(bar);
      if (size === null || size === undefined) return [];
      const failed = bar.status >= 400 ? " failed" : "";
      const whole = rect(index, size, `bar${failed}`);
      whole.append(svg("title", {}, `${unit(size)}${failed && `, status ${bar.status}`}`));
      const part = inner?.(bar);
      return part === null || part === undefined ? [whole] : [whole, rect(index, part, "inner")];
    }),
    svg("line", { class: "base", x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT }));
  return el("figure", {}, el("figcaption", {}, el("strong", {}, title), el("span.note", {}, label)), drawing,
    el("p.legend", { "aria-hidden": "true" }, legend.map((word, index) => el(index ? "span.key-inner" : "span.key", {}, word)),
      el("span.end", {}, "newest →")));
}
