// A bar chart of the last tasks, drawn with DOM calls. The numbers are in the table below it: a screen reader gets the summary.

import { el, svg } from "./dom.js";

const WIDTH = 480;
const HEIGHT = 120;
/** Room for so many bars: what the hub tells at once. */
const BARS = 50;
/** Marks of the scale above zero. */
const MARKS = 4;

/** Whether a call failed: one that its caller stopped did not. */
const hasFailed = ({ status }) => status >= 400 && status !== 499;

/** Round ends of small scales: their quarters are whole. */
const SMALL = [4, 8, 12, 16, 20];

/** The smallest round number at or above `most` whose quarters are round, too: 4, 8, 12, 16, 20, 40, 80, 100, 120, 200 … */
export function scaleOf(most) {
  const digit = 10 ** Math.floor(Math.log10(Math.max(most, 20)));
  return [...SMALL, ...[1, 1.2, 2, 4, 6, 8, 10].map((step) => step * digit)].find((end) => end >= most);
}

export function chart({ title, bars, value, inner, unit, label, legend, when }) {
  const most = scaleOf(Math.max(0, ...bars.map((bar) => value(bar) ?? 0)));
  const step = WIDTH / BARS;
  const left = WIDTH - bars.length * step;
  const rect = (index, size, kind) => {
    const height = Math.max(1.5, (size / most) * HEIGHT);
    return svg("rect", { class: kind, x: left + index * step + 1, y: HEIGHT - height, width: step - 2, height, rx: 1.5 });
  };
  const marks = Array.from({ length: MARKS + 1 }, (_, index) => most - (most * index) / MARKS);
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}: ${label}`, preserveAspectRatio: "none" },
    marks.slice(0, -1).map((mark) => svg("line", { class: "grid", x1: 0, x2: WIDTH, y1: HEIGHT * (1 - mark / most), y2: HEIGHT * (1 - mark / most) })),
    bars.flatMap((bar, index) => {
      const size = value(bar);
      if (size === null || size === undefined) return [];
      const failed = hasFailed(bar) ? " failed" : "";
      const whole = rect(index, size, `bar${failed}`);
      whole.append(svg("title", {}, [when?.(bar), unit(size), failed && `status ${bar.status}`].filter(Boolean).join(", ")));
      const part = inner?.(bar);
      return part === null || part === undefined ? [whole] : [whole, rect(index, part, "inner")];
    }),
    svg("line", { class: "base", x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT }));
  const ends = [when && bars.length > BARS / 2 ? when(bars[0]) : "", when && bars.length ? when(bars.at(-1)) : "newest"];
  return el("figure", {}, el("figcaption", {}, el("strong", {}, title), el("span.note", {}, label)),
    el("div.plot", {}, el("div.marks", { "aria-hidden": "true" }, marks.map((mark) => el("span", {}, unit(mark).replace(/\.0+(?=\D|$)/, "")))), drawing,
      el("div.ends", { "aria-hidden": "true" }, ends.map((end) => el("span", {}, end)))),
    el("p.legend", { "aria-hidden": "true" }, legend.map((word, index) => el(index ? "span.key-inner" : "span.key", {}, word)), bars.some(hasFailed) && el("span.key-failed", {}, "failed")));
}
