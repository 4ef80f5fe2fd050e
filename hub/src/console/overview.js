// The hub at a glance: models by pool, publishers, tasks. A member sees its own publishers and tasks, and is told so.

import { el, keyed, pill, text } from "./dom.js";
import { ago, count, rate, seen as seenAt } from "./format.js";
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
  const llms = section("llms", "Models", ["Name", "State", "Model", "Owner", "Work", "Tokens/s", "Seen"], (item) => llmRow(item, user),
    ["No model that you may see. Publish one from the machine that runs it: ", el("code", {}, "virtual-llm publish")], found, filter);
  llms.node.append(all);
  const publishers = section("publishers", admin ? "Publishers" : "Your publishers", ["Session", "State", ...(admin ? ["User"] : []), "Models", "Seen"], (one) => publisherRow(one, admin), ["No publisher yet."]);
  const tasks = section("tasks", admin ? "Tasks" : "Your tasks", ["Model", "Status", ...(admin ? ["User"] : []), "Kind", "Began"], () => taskRow(admin), ["No task yet."]);
  const of = (label) => (admin ? label : `Your ${label.toLowerCase()}`);
  const node = el("div.stack", {},
    el("h1.hidden", {}, "Overview"),
    el("dl.tiles", {}, tile("llms", "Models ready"), tile("publishers", of("Publishers")), tile("running", of("Tasks running")), tile("queued", of("Tasks waiting")), tile("rate", "Tokens a second")),
    llms.node, publishers.node, tasks.node);

  let lines = LINES;
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
  all.addEventListener("click", () => {
    lines = Infinity;
    draw();
    llms.node.querySelector(`tbody tr:nth-child(${LINES + 1}) a`)?.focus();
  });
  draw();
  const unwatch = watch(draw);
  // Ages grow without news from the hub.
  const clock = setInterval(draw, 5000);
  return { title: "Overview", node, leave: () => (unwatch(), clearInterval(clock)) };
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

/** A titled table that becomes a list of cards on a phone, and a sentence while it is empty. */
function section(key, title, columns, make, empty, ...beside) {
  const id = `section-${key}`;
  const body = el("tbody");
  const table = el("table", { "aria-labelledby": id },
    el("thead", {}, el("tr", {}, columns.map((column) => el("th", { scope: "col" }, column)))), body);
  const none = el("p.empty", {}, empty);
  const other = el("p.empty", { hidden: true });
  const node = el(`section.card.table-${key}`, { "aria-labelledby": id }, el("div.section-head", {}, el("h2", { id }, title), beside), none, other, table);
  const sync = keyed(body, make);
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

const cell = (label, ...children) => el("td", { "data-label": label }, ...children);

const llmRow = ({ pool, row }, user) => (pool === undefined ? singleRow(row.name, user) : poolRow(pool));

function poolRow(pool) {
  const size = el("span.note");
  const node = el("tr.pool", {}, el("th", { scope: "row", colspan: 7 }, "Pool ",
    el("a", { href: `#/llm/${encodeURIComponent(pool)}` }, pool), " ", size));
  return {
    node,
    update({ members }) {
      text(size, `${members.filter((row) => stateOf(row) !== "away").length} of ${members.length} ready`);
    },
  };
}

function singleRow(name, user) {
  const state = pill();
  const [model, owner, work, speed, seen, lock] = [el("span.mono"), el("span"), el("span"), el("span"), el("span"), el("span.tag")];
  const node = el("tr", {},
    el("th", { scope: "row" }, el("a", { href: `#/llm/${encodeURIComponent(name)}` }, name), " ", lock),
    cell("State", state.node), cell("Model", model), cell("Owner", owner), cell("Work", work), cell("Tokens/s", speed), cell("Seen", seen));
  return {
    node,
    update({ row, member }) {
      node.classList.toggle("member", Boolean(member));
      state.set(stateOf(row));
      text(lock, row.visibility === "private" ? "private" : "");
      text(model, row.model);
      text(owner, row.ownerId === user ? "you" : row.ownerId ?? "–");
      text(work, row.room === null ? count(row.busy) : `${row.busy} of ${row.room}`);
      text(speed, row.tokensPerSecond ? rate(row.tokensPerSecond) : "–");
      text(seen, row.kind === "public" ? "upstream" : seenAt(row));
    },
  };
}

function publisherRow({ id }, admin) {
  const state = pill();
  const [user, llms, seen] = [el("span"), el("span.clip"), el("span")];
  const node = el("tr", {}, el("th.mono", { scope: "row", title: id }, el("span.clip", {}, id)),
    cell("State", state.node), admin && cell("User", user), cell("Models", llms), cell("Seen", seen));
  return {
    node,
    update(one) {
      state.set(one.status);
      text(user, one.ownerId);
      const names = one.llms.join(", ");
      text(llms, one.llms.length > 1 ? `${one.llms.length}: ${names}` : names || "–");
      llms.title = names;
      text(seen, seenAt(one));
    },
  };
}

function taskRow(admin) {
  const status = pill();
  const [name, user, kind, began, why] = [el("span"), el("span"), el("span"), el("span"), el("span.note")];
  const node = el("tr", {}, el("th", { scope: "row" }, name),
    cell("Status", status.node, " ", why), admin && cell("User", user), cell("Kind", kind), cell("Began", began));
  return {
    node,
    update(task) {
      text(name, task.llmName && task.llmName !== task.llm ? `${task.llm} → ${task.llmName}` : task.llm);
      status.set(task.status);
      text(why, [task.code, task.error].filter(Boolean).join(": "));
      text(user, task.ownerId);
      text(kind, [task.streaming ? "streamed" : "whole", task.durable && "durable"].filter(Boolean).join(", "));
      text(began, ago(task.createdAt));
    },
  };
}
