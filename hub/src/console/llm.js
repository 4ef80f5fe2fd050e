// One LLM, or a pool: what is known of it, how fast it answers, its recent tasks.

import { json } from "./api.js";
import { chart } from "./chart.js";
import { el, keyed, pill, text } from "./dom.js";
import { count, median, millis, moment, percent, rate, seen } from "./format.js";
import { live, watch } from "./live.js";
import { best, byName, serves, stateOf } from "./models.js";

/** Between two looks at the audit, in ms; tasks that end in the live view bring the next look forward. */
const LOOK = 5000;

export function llm(name) {
  const members = Object.values(live.llms).filter(serves(name));
  return !live.llms[name] && members.length ? pool(name) : one(name);
}

/** The hit rate of a row's or a pool's prompt cache, if its backends report one. */
const cached = ({ cacheHitPercent }) =>
  cacheHitPercent === undefined ? "" : `${percent(cacheHitPercent)} of prompt tokens cached`;

const chatLink = (name) => el("a.button", { href: `#/chat/${encodeURIComponent(name)}` }, "Chat");

const heading = (name, ...rest) => el("div.heading", {}, el("h1", {}, name), ...rest);

function pool(name) {
  const list = el("ul.plain");
  const sync = keyed(list, (row) => {
    const status = pill();
    const hits = el("span.hint");
    const node = el("li", {}, el("a", { href: `#/llm/${encodeURIComponent(row.name)}` }, row.name), " ", status.node, " ", hits);
    const update = (row) => {
      status.set(stateOf(row));
      text(hits, [row.ownerId, row.model, cached(row)].filter(Boolean).join(" · "));
    };
    return { node, update };
  });
  const state = pill();
  const draw = () => {
    const members = Object.values(live.llms).filter(serves(name)).sort(byName);
    state.set(best(members.map(stateOf)));
    sync(members, (row) => row.name);
  };
  draw();
  const hits = el("p.hint");
  const look = async () => {
    const all = await json("GET", `api/v1/llms/${encodeURIComponent(name)}/members`).catch(() => undefined);
    if (all) text(hits, cached(all));
  };
  look();
  const clock = setInterval(look, LOOK);
  const node = el("div.stack", {}, heading(name, state.node, chatLink(name)),
    el("section.card", { "aria-labelledby": "members" }, el("h2", { id: "members" }, "Members of the pool"), hits, list));
  const unwatch = watch(draw);
  return { title: name, node, leave: () => (unwatch(), clearInterval(clock)) };
}

const FACTS = [
  ["Model", (row) => row.model], ["Type", (row) => row.type], ["Kind", (row) => row.kind],
  ["Pool", (row) => (row.waitsFor ? `${row.poolName}, waits for ${row.waitsFor}` : row.poolName ?? "–")], ["Visibility", (row) => row.visibility], ["Owner", (row) => row.ownerId ?? "–"],
  ["Tier", (row) => row.tier ?? "–"], ["Work", (row) => (row.room === null ? count(row.busy) : `${row.busy} of ${row.room}`)],
  ["Context", (row) => (row.contextLength ? count(row.contextLength) : "–")], ["Can", (row) => can(row)],
  ["Tokens a second", (row) => (row.tokensPerSecond ? rate(row.tokensPerSecond) : "–")], ["Prompt tokens cached", (row) => percent(row.cacheHitPercent)], ["Seen", (row) => seen(row)],
  ["Publisher", (row) => row.providerSessionId ?? "–"],
];

/** The known capabilities of a row. */
const can = (row) => Object.entries(row.capabilities ?? {}).map(([name, has]) => (has ? name : `no ${name}`)).join(", ") || "–";

/** Long values get twice the room. */
const WIDE = new Set(["Model", "Publisher"]);

function one(name) {
  const status = pill();
  const ask = chatLink(name);
  const about = el("p.hint");
  const facts = FACTS.map(([label, value]) => ({ value, label, node: el("dd") }));
  const gone = el("p.trouble", { role: "alert" });
  const charts = el("div.charts");
  const { user, role } = live.caller;
  const admin = role === "admin";
  // Tasks of other callers are shown to the row's owner and to admins, their names to admins alone.
  const own = admin || live.llms[name]?.ownerId === user ? "Recent tasks" : "Your recent tasks";
  const rows = el("tbody");
  const none = el("p.empty", {}, "Looking …");
  const table = el("table", { "aria-labelledby": "recent", hidden: true }, el("thead", {}, el("tr", {},
    ["When", "Status", "Code", ...(admin ? ["User"] : []), "First byte", "Total", "Tokens in", "Cached", "Tokens out"].map((label) => el("th", { scope: "col" }, label)))), rows);
  const sync = keyed(rows, (task) => taskRow(task, admin));
  const card = (id, title, ...rest) => el("section.card", { "aria-labelledby": id }, el("h2", { id }, title), rest);
  const speed = card("speed", "Latency and tokens", charts);
  const cards = el("div.stack", {},
    card("facts", "Now", el("dl.facts", {}, facts.map(({ label, node }) => el(WIDE.has(label) ? "div.wide" : "div", {}, el("dt", {}, label), node)))),
    speed, card("recent", own, none, table));
  const node = el("div.stack", {}, heading(name, status.node, ask), about, gone, cards);
  speed.hidden = true;

  const draw = () => {
    const row = live.llms[name];
    text(gone, row || live.state !== "live" ? "" : "There is no such LLM, or it is not visible to you.");
    cards.hidden = !row;
    status.node.hidden = !row;
    ask.hidden = !row || row.capabilities?.embeddings === true;
    if (!row) return;
    status.set(stateOf(row));
    text(about, row.description ?? "");
    for (const { value, node } of facts) text(node, value(row));
  };

  let drawn = "";
  const look = async () => {
    const tasks = await json("GET", `api/v1/llms/${encodeURIComponent(name)}/tasks`).catch(() => undefined);
    const seen = JSON.stringify(tasks);
    if (!tasks || seen === drawn) return;
    drawn = seen;
    text(none, "No task yet.");
    none.hidden = tasks.length > 0;
    table.hidden = speed.hidden = tasks.length === 0;
    sync(tasks, (task) => task.id);
    const oldest = tasks.toReversed();
    charts.replaceChildren(
      chart({ title: "Time to answer", unit: millis, bars: oldest, value: (task) => task.totalMs, inner: (task) => task.firstByteMs,
        label: summary("until the end", tasks.map((task) => task.totalMs), millis), legend: ["until the end", "until the first byte"], when }),
      chart({ title: "Tokens out", unit: count, bars: oldest, value: (task) => task.outputTokens,
        label: summary("tokens out", tasks.map((task) => task.outputTokens ?? NaN), count), legend: ["tokens"], when }));
  };

  let ended = "";
  const unwatch = watch(() => {
    draw();
    const now = Object.values(live.tasks).filter((task) => task.llmName === name).map((task) => task.id + task.status).sort().join();
    if (now !== ended) look();
    ended = now;
  });
  draw();
  look();
  const clock = setInterval(look, LOOK);
  return { title: name, node, leave: () => (unwatch(), clearInterval(clock)) };
}

function summary(what, numbers, unit) {
  const known = numbers.filter(Number.isFinite);
  return known.length ? `median ${unit(median(known))}, most ${unit(Math.max(...known))} ${what}` : `no ${what} known yet`;
}

/** The tokens of an answer, with a mark if the hub counted events since the backend reported no usage. */
function tokensOut({ outputTokens, counted }) {
  return counted ? el("abbr", { title: "Counted by the hub: the backend reported no usage" }, `~${count(outputTokens)}`) : count(outputTokens);
}

/** When a task began, as the charts have it. */
const when = (task) => moment(task.createdAt);

function taskRow(task, admin) {
  const status = pill();
  status.set(task.status, task.status < 400 ? "active" : task.status === 499 ? "inactive" : "error");
  const cell = (label, said) => el("td", { "data-label": label }, said);
  const node = el("tr", {}, el("th", { scope: "row" }, moment(task.createdAt)), cell("Status", status.node),
    cell("Code", task.code ?? "–"), admin && cell("User", task.user ?? "–"), cell("First byte", millis(task.firstByteMs)), cell("Total", millis(task.totalMs)),
    cell("Tokens in", count(task.inputTokens)), cell("Cached", count(task.cachedTokens)), cell("Tokens out", tokensOut(task)));
  return { node, update() {} };
}
