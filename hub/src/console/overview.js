// The hub at a glance: models by pool, publishers, tasks. A member sees its own publishers and tasks, and is told so.

import { json } from "./api.js";
import { el, keyed, nextFrame, pill, text } from "./dom.js";
import { ago, count, rate, seen } from "./format.js";
import { live, watch } from "./live.js";
import { byName, poolsOf, stateOf } from "./models.js";

/** Tasks that are listed: a screenful. */
const TASKS = 20;
/** Lines of models that are drawn until all are asked for: more than fit, few enough for a slow phone. */
const LINES = 60;

/** What runs or waits stands before what has ended. */
const over = (task) => ["completed", "error", "cancelled"].includes(task.status);

export function overview() {
  const { user, role } = live.caller;
  const admin = role === "admin";
  const tiles = {};
  const tile = (key, label) => el("div.tile", {}, el("dt", {}, label), (tiles[key] = el("dd", {}, "–")));
  const filter = el("input.filter", { type: "search", placeholder: "Filter by name, model, owner, state", "aria-label": "Filter the models", spellcheck: "false", autocomplete: "off" });
  const found = el("span.note", { role: "status" });
  const all = el("button.quiet", { type: "button", hidden: true });
  const llms = section("llms", "Models", ["Name", llmHead], llmColumns(user),
    ["There is no model for you yet. Publish one from the machine that runs it: ", el("code", {}, "virtual-llm publish")], found, filter);
  llms.node.append(all);
  const publishers = section("publishers", admin ? "Publishers" : "Your publishers", ["Session", publisherHead], publisherColumns(admin), ["No publisher yet."]);
  const hubs = section("hubs", "Hubs", ["Hub", hubHead], hubColumns, []);
  hubs.node.hidden = true;
  const tasks = section("tasks", admin ? "Tasks" : "Your tasks", ["Model", taskHead], taskColumns(admin), ["No task yet."]);
  const of = (label) => (admin ? label : `Your ${label.toLowerCase()}`);
  const node = el("div.stack", {},
    el("h1.hidden", {}, "Overview"),
    el("dl.tiles", {}, tile("llms", "Models here"), tile("publishers", of("Publishers")), tile("running", of("Tasks running")), tile("queued", of("Tasks waiting")), tile("rate", "Tokens a second")),
    llms.node, publishers.node, tasks.node, hubs.node);

  let [lines, left] = [LINES, false];
  const draw = () => {
    const rows = Object.values(live.llms);
    const here = Object.values(live.publishers);
    text(tiles.llms, `${rows.filter((row) => stateOf(row) !== "away").length} of ${rows.length}`);
    text(tiles.publishers, count(here.filter((one) => one.status === "connected").length));
    text(tiles.running, count(live.totals.tasks?.running ?? 0));
    text(tiles.queued, count(live.totals.tasks?.queued ?? 0));
    text(tiles.rate, rate(rows.reduce((sum, row) => sum + row.tokensPerSecond, 0)));
    const wanted = filter.value.trim().toLowerCase();
    const kept = wanted ? rows.filter(matches(wanted)) : rows;
    const items = grouped(kept, user);
    filter.hidden = rows.length < 6;
    text(found, wanted ? `${kept.length} of ${rows.length}` : "");
    all.hidden = items.length <= lines;
    text(all, `Show all ${kept.length} models`);
    llms.draw(items.slice(0, lines), (item) => item.key, rows.length ? "No model fits the filter." : undefined);
    publishers.node.hidden = !admin && !here.length;
    publishers.draw(here.sort((a, b) => (a.ownerId !== user) - (b.ownerId !== user) || (a.id < b.id ? -1 : 1)), (one) => one.id);
    const newest = Object.values(live.tasks).sort((a, b) => over(a) - over(b) || (a.createdAt < b.createdAt ? 1 : -1));
    tasks.draw(newest.slice(0, TASKS), (task) => task.id);
  };
  filter.addEventListener("input", draw);
  // Hundreds of lines are added some in each frame, so that the page goes on answering.
  const more = () => {
    lines += LINES;
    draw();
    if (lines === 2 * LINES) llms.node.querySelector(`tbody tr:nth-child(${LINES + 1}) a`)?.focus();
    if (!all.hidden && !left) nextFrame(more);
  };
  all.addEventListener("click", more);
  draw();
  const unwatch = watch(draw);
  // A hub alone is asked once.
  let several = admin;
  const lookAtHubs = async () => {
    const said = several && await json("GET", "api/v1/cluster").catch(() => undefined);
    if (!said) return;
    several = said.cluster !== null;
    // The newest process of each comes first.
    const newest = [...new Map(said.hubs.map((one) => [one.id, one]).reverse()).values()].filter((one) => one.state !== "stopped");
    hubs.node.hidden = newest.length < 2;
    hubs.draw(newest.sort((a, b) => (a.id < b.id ? -1 : 1)), (one) => one.id);
  };
  lookAtHubs();
  // Ages grow without news from the hub.
  const clock = setInterval(() => (draw(), lookAtHubs()), 5000);
  return { title: "Overview", node, leave: () => ((left = true), unwatch(), clearInterval(clock)) };
}

/** Whether each word of the filter is in a row's name, model, pool, owner, state or visibility. */
function matches(wanted) {
  const words = wanted.split(/\s+/);
  return (row) => {
    const said = [row.name, row.model, row.poolName, row.ownerId, stateOf(row), row.visibility].join(" ").toLowerCase();
    return words.every((word) => said.includes(word));
  };
}

/** Lines of the table: a line for each pool with its members below it, and the other rows; the user's own first, then by name. */
function grouped(rows, user) {
  const own = (row) => row.ownerId === user;
  const alone = rows.filter((row) => !row.poolName || row.waitsFor).map((row) => ({ name: row.name, own: own(row), items: [{ key: `llm ${row.name}`, row }] }));
  const pools = [...poolsOf(rows)].map(([name, members]) => ({ name, own: members.some(own), items: [
    { key: `pool ${name}`, pool: name, members },
    ...members.sort((a, b) => own(b) - own(a) || byName(a, b)).map((row) => ({ key: `llm ${row.name}`, row, member: true })),
  ] }));
  return [...alone, ...pools].sort((a, b) => b.own - a.own || byName(a, b)).flatMap(({ items }) => items);
}

/**
 * A titled table that becomes a list of cards on a phone, and a sentence while it is empty. `head(item)` makes an item's first
 * cell, `{ node, update(item, line) }`, and may be `whole`. The other columns are `[label, read(item), kind]`, where the kind is
 * `pill`, or the element that has the text.
 */
function section(key, title, [first, head], columns, empty, ...beside) {
  const id = `section-${key}`;
  const body = el("tbody");
  const labels = [first, ...columns.map(([label]) => label)];
  const table = el("table", { "aria-labelledby": id },
    el("thead", {}, el("tr", {}, labels.map((label) => el("th", { scope: "col" }, label)))), body);
  const none = el("p.empty", {}, empty);
  const other = el("p.empty", { hidden: true });
  const node = el(`section.card.table-${key}`, { "aria-labelledby": id }, el("div.section-head", {}, el("h2", { id }, title), beside), none, other, table);
  const sync = keyed(body, (item) => {
    const begin = head(item);
    const cells = begin.whole ? [] : columns.map(([label, read, kind = "span"]) => {
      const shown = kind === "pill" ? pill() : { node: el(kind), set: (said) => (text(shown.node, said), kind === "span.clip" && (shown.node.title = said)) };
      return { node: el("td", { "data-label": label }, shown.node), draw: (now) => shown.set(read(now)) };
    });
    const line = el("tr", {}, begin.node, cells.map((cell) => cell.node));
    return { node: line, update: (now) => (begin.update?.(now, line), cells.forEach((cell) => cell.draw(now))) };
  });
  return {
    node,
    /** `instead` is said of an empty list in place of the usual sentence. */
    draw(items, keyOf, instead) {
      none.hidden = items.length > 0 || instead !== undefined;
      other.hidden = items.length > 0 || instead === undefined;
      text(other, instead);
      table.hidden = items.length === 0;
      sync(items, keyOf);
    },
  };
}

const linkTo = (name) => el("a", { href: `#/llm/${encodeURIComponent(name)}` }, name);

/** The first cell of a model's line, or the only one of a pool's. */
function llmHead({ pool, row }) {
  const note = el(pool === undefined ? "span.tag" : "span.note");
  if (pool === undefined) {
    const update = ({ row, member }, line) => {
      line.classList.toggle("member", Boolean(member));
      text(note, row.visibility === "private" ? "private" : "");
    };
    return { node: el("th", { scope: "row" }, linkTo(row.name), " ", note), update };
  }
  const update = ({ members }, line) => {
    line.classList.add("pool");
    text(note, `${members.filter((row) => stateOf(row) !== "away").length} of ${members.length} here`);
  };
  return { node: el("th", { scope: "row", colspan: 7 }, "Pool ", linkTo(pool), " ", note), whole: true, update };
}

const llmColumns = (user) => [
  ["State", ({ row }) => stateOf(row), "pill"],
  ["Model", ({ row }) => row.model, "span.mono"],
  ["Owner", ({ row }) => (row.ownerId === user ? "you" : row.ownerId ?? "–")],
  ["Work", ({ row }) => (row.room === null ? count(row.busy) : `${row.busy} of ${row.room}`)],
  ["Tokens/s", ({ row }) => (row.tokensPerSecond ? rate(row.tokensPerSecond) : "–")],
  ["Seen", ({ row }) => (row.kind === "public" ? "upstream" : seen(row))],
];

const publisherHead = ({ id }) => ({ node: el("th.mono", { scope: "row", title: id }, el("span.clip", {}, id)) });

const publisherColumns = (admin) => [
  ["State", (one) => one.status, "pill"],
  ...(admin ? [["User", (one) => one.ownerId]] : []),
  ["Models", ({ llms }) => (llms.length > 1 ? `${llms.length}: ${llms.join(", ")}` : llms[0] ?? "–"), "span.clip"],
  ["Seen", (one) => seen(one)],
];

function hubHead() {
  const [name, note] = [el("span"), el("span.note")];
  return { node: el("th", { scope: "row" }, name, " ", note), update: ({ id, here }) => (text(name, id), text(note, here ? "this one" : "")) };
}

const hubColumns = [
  ["State", (one) => one.state, "pill"], ["NATS", (one) => one.nats ?? "–"], ["Database", (one) => one.store ?? "–"],
  ["Channels", (one) => count(one.channels)], ["Calls", (one) => count(one.calls)], ["Table", (one) => one.table ?? "–", "span.mono"],
  ["Version", (one) => one.version], ["Began", (one) => ago(one.startedAt)],
];

function taskHead() {
  const node = el("th", { scope: "row" });
  return { node, update: ({ llm, llmName }) => text(node, llmName && llmName !== llm ? `${llm} → ${llmName}` : llm) };
}

const taskColumns = (admin) => [
  ["Status", (task) => task.status, "pill"],
  ["Error", (task) => [task.code, task.error].filter(Boolean).join(": "), "span.note"],
  ...(admin ? [["User", (task) => task.ownerId]] : []),
  ["Kind", (task) => [task.streaming ? "streamed" : "whole", task.durable && "durable"].filter(Boolean).join(", ")],
  ["Began", (task) => ago(task.createdAt)],
];
