// Who used how much: a chart of the days, and a table by user, LLM, token or day, and what the user may use. A member sees its own calls, or those to its LLMs.

import { json } from "./api.js";
import { el, svg, text } from "./dom.js";
import { count } from "./format.js";
import { limitsCard } from "./limits.js";
import { live } from "./live.js";

const WIDTH = 600;
const HEIGHT = 120;
const DAY = 86_400_000;

/** What the table may be by: the column's title, and the names of a row. */
const BY = {
  user: ["User", (row) => [row.user]],
  llm: ["LLM", (row) => [row.llm]],
  token: ["Token", (row) => [row.token || "–", row.user]],
  day: ["Day", (row) => [row.day]],
};

export function usage() {
  const isAdmin = live.caller.role === "admin";
  const trouble = el("p.trouble", { role: "alert" });
  const days = el("select", { id: "usage-days" }, [7, 30, 90, 365].map((n) => el("option", { value: n }, `${n} days`)));
  const by = el("select", { id: "usage-by" }, Object.entries(BY).map(([key, [title]]) =>
    el("option", { value: key, selected: key === (isAdmin ? "user" : "llm") }, title)));
  const whose = el("select", { id: "usage-whose" }, [["", isAdmin ? "all users" : "your calls"], ["&scope=owned", "your LLMs"]]
    .map(([value, said]) => el("option", { value }, said)));
  const drawing = el("div", { id: "usage-chart" });
  const [heading, head, body, more] = [el("h2", { id: "usage-table" }), el("tr"), el("tbody"), el("p.note")];
  let mayUse = limitsCard("Your limits", []);
  const labelled = (label, field) => el("div.field", {}, el("label", { for: field.id }, label), field);
  const node = el("div.stack", {}, el("h1", {}, "Usage"),
    el("div.row.picks", {}, labelled("Last", days), labelled("Of", whose), labelled("By", by)), trouble, mayUse,
    el("section.card", { "aria-labelledby": "usage-daily" }, el("h2", { id: "usage-daily" }, "Tokens a day"), drawing),
    el("section.card", { "aria-labelledby": "usage-table" },
      heading, el("table", { "aria-labelledby": "usage-table" }, el("thead", {}, head), body), more));

  let turn = 0;
  async function load() {
    // Only the answer to the last choice is shown.
    const mine = ++turn;
    text(trouble, "");
    // With which tokens others call is their own affair.
    if (whose.value && by.value === "token") by.value = "user";
    try {
      const since = `since=${days.value - 1}d${whose.value}`;
      const [me, daily, table] = await Promise.all(["whoami", ...[`day&limit=400`, `${by.value}&limit=500`]
        .map((wanted) => `usage?by=${wanted}&${since}`)].map((path) => json("GET", `api/v1/${path}`)));
      if (mine !== turn) return;
      const now = limitsCard("Your limits", [["All your tokens together", me.userLimits], ["This token", me.tokenLimits]]);
      mayUse.replaceWith(now);
      mayUse = now;
      drawing.replaceChildren(chart(daily));
      text(heading, whose.value ? "Calls to your LLMs" : isAdmin ? "All users" : "Your calls");
      fill(table);
    } catch (error) {
      if (mine === turn) text(trouble, `${error.message}.`);
    }
  }

  function fill(table) {
    const [title, names] = BY[table.by];
    head.replaceChildren(...[title, "Calls", "Failed", "Refused", "Input", "Cached", "Output", "Time"]
      .map((label) => el("th", { scope: "col" }, label)));
    const rows = table.rows.map((row) => line(names(row), row));
    if (!rows.length) rows.push(el("tr", {}, el("td.empty", { colspan: 8, "data-label": "" }, "No calls in these days.")));
    else rows.push(line(["Total"], table.total));
    body.replaceChildren(...rows);
    text(more, [table.more ? `${count(table.more)} rows with fewer tokens are left out; the total has them.` : "",
      table.total.countedTokens ? "~: some of them were counted by the hub, as pieces of streams whose backend reported no usage." : "",
      `Days are those of UTC, ${table.since} to ${table.until}.`].filter(Boolean).join(" "));
  }

  for (const choice of [days, whose, by]) choice.addEventListener("change", load);
  load();
  return { title: "Usage", node, leave: () => turn++ };
}

function line([name, beside], row) {
  const cell = (label, ...said) => el("td", { "data-label": label }, ...said);
  const by = (label, of) => cell(label, el("span", { title: Object.entries(of).map(([code, calls]) => `${count(calls)} ${code}`).join(", ") || undefined },
    count(Object.values(of).reduce((sum, calls) => sum + calls, 0))));
  return el("tr", {}, el("th", { scope: "row" }, name, beside && el("span.note", {}, ` ${beside}`)),
    cell("Calls", el("span", { title: row.cancelled ? `${count(row.cancelled)} cancelled` : undefined }, count(row.calls))),
    by("Failed", row.failures), by("Refused", row.refused),
    cell("Input", count(row.inputTokens)), cell("Cached", count(row.cachedTokens)),
    cell("Output", `${row.countedTokens ? "~" : ""}${count(row.outputTokens)}`), cell("Time", time(row.seconds)));
}

function time(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

/** The smallest of 1, 2, 5, 10, 20 … that is not below a number. */
function roundUp(number) {
  const unit = 10 ** Math.floor(Math.log10(Math.max(1, number)));
  return [1, 2, 5, 10].map((step) => step * unit).find((step) => step >= number);
}

/** A bar for each day, of all its tokens, with those of the answers in front. The numbers are in the table by day. */
function chart({ since, until, rows, total }) {
  const known = new Map(rows.map((row) => [row.day, row]));
  const bars = [];
  for (let at = Date.parse(since); at <= Date.parse(until); at += DAY) {
    const day = new Date(at).toISOString().slice(0, 10);
    bars.push({ day, input: 0, output: 0, calls: 0, ...tokens(known.get(day)) });
  }
  const top = roundUp(Math.max(1, ...bars.map((bar) => bar.input + bar.output)));
  const step = WIDTH / bars.length;
  const rect = (kind, index, size) => {
    const height = (size / top) * HEIGHT;
    return svg("rect", { class: kind, x: index * step + step * 0.1, y: HEIGHT - height, width: step * 0.8, height });
  };
  const label = `${count(total.inputTokens)} tokens of input and ${count(total.outputTokens)} of output in ${count(total.calls)} calls`;
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `Tokens a day from ${since} to ${until}: ${label}`, preserveAspectRatio: "none" },
    [0, 0.5].map((part) => svg("line", { class: "grid", x1: 0, x2: WIDTH, y1: HEIGHT * part, y2: HEIGHT * part })),
    bars.flatMap((bar, index) => {
      const whole = rect("bar", index, bar.input + bar.output);
      whole.append(svg("title", {}, `${bar.day}: ${count(bar.input)} input, ${count(bar.output)} output, ${count(bar.calls)} calls`));
      return [whole, rect("inner", index, bar.output)];
    }),
    svg("line", { class: "base", x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT }));
  return el("figure", {}, el("figcaption", {}, el("span.note", {}, label)),
    el("div.scaled", {}, el("div.scale", { "aria-hidden": "true" }, [top, top / 2, 0].map((mark) => el("span", {}, short(mark)))), picture),
    el("p.legend", { "aria-hidden": "true" }, el("span.key", {}, "input"), el("span.key-inner", {}, "output"),
      el("span.end", {}, since === until ? since : `${since} – ${until}`)));
}

function tokens(row) {
  return row && { input: row.inputTokens, output: row.outputTokens, calls: row.calls };
}

/** `0`, `500`, `2 k`, `1.5 M`. */
function short(number) {
  const [size, unit] = [[1e9, " G"], [1e6, " M"], [1e3, " k"]].find(([size]) => number >= size) ?? [1, ""];
  return `${Number((number / size).toFixed(1))}${unit}`;
}
