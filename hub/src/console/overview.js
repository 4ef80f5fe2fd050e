// The hub at a glance: LLMs by pool, publishers, tasks.

import { el, keyed, pill, text } from "./dom.js";
import { ago, count, rate, seen as seenAt } from "./format.js";
import { live, watch } from "./live.js";

/** So many tasks are listed: a screenful. */
const TASKS = 20;

/** What runs or waits stands before what has ended. */
const over = (task) => ["completed", "error", "cancelled"].includes(task.status);

export function overview() {
  const tiles = {};
  const tile = (key, label) => el("div.tile", {}, el("dt", {}, label), (tiles[key] = el("dd", {}, "–")));
  const llms = section("LLMs", ["Name", "Status", "Model", "Work", "Tokens/s", "Seen"], llmRow, "No LLM that you may see. Publish one from the machine that runs it: ", "virtual-llm publish");
  const publishers = section("Publishers", ["Session", "State", "User", "LLMs", "Seen"], publisherRow, "No publisher yet.");
  const tasks = section("Tasks", ["LLM", "Status", "User", "Kind", "Began"], taskRow, "No task yet.");
  const node = el("div.stack", {},
    el("h1.hidden", {}, "Overview"),
    el("dl.tiles", {}, tile("llms", "LLMs ready"), tile("publishers", "Publishers"), tile("running", "Tasks running"), tile("queued", "Queued"), tile("rate", "Tokens a second")),
    llms.node, publishers.node, tasks.node);

  const draw = () => {
    const rows = Object.values(live.llms);
    const here = Object.values(live.publishers);
    text(tiles.llms, `${rows.filter((row) => row.status !== "inactive").length} of ${rows.length}`);
    text(tiles.publishers, count(here.filter((one) => one.status === "connected").length));
    text(tiles.running, count(live.totals.tasks?.running ?? 0));
    text(tiles.queued, count(live.totals.tasks?.queued ?? 0));
    text(tiles.rate, rate(rows.reduce((sum, row) => sum + row.tokensPerSecond, 0)));
    llms.draw(grouped(rows), (item) => item.key);
    publishers.draw(here, (one) => one.id);
    const newest = Object.values(live.tasks).sort((a, b) => over(a) - over(b) || (a.createdAt < b.createdAt ? 1 : -1));
    tasks.draw(newest.slice(0, TASKS), (task) => task.id);
  };
  draw();
  const unwatch = watch(draw);
  // Ages grow without news from the hub.
  const clock = setInterval(draw, 5000);
  return { title: "Overview", node, leave: () => (unwatch(), clearInterval(clock)) };
}

/** Rows by pool: a line for each pool of several, its members below it; then the rest. */
function grouped(rows) {
  const pools = new Map();
  const alone = [];
  for (const row of rows.sort((a, b) => a.name.localeCompare(b.name))) {
    if (!row.poolName || row.waitsFor) alone.push({ key: `llm ${row.name}`, row });
    else if (pools.has(row.poolName)) pools.get(row.poolName).push(row);
    else pools.set(row.poolName, [row]);
  }
  const items = [];
  for (const [pool, members] of [...pools].sort(([a], [b]) => a.localeCompare(b))) {
    items.push({ key: `pool ${pool}`, pool, members });
    items.push(...members.map((row) => ({ key: `llm ${row.name}`, row, member: true })));
  }
  return items.concat(alone);
}

/** A titled table that becomes a list of cards on a phone, and a sentence while it is empty. */
function section(title, columns, make, empty, command) {
  const id = `section-${title.toLowerCase()}`;
  const body = el("tbody");
  const table = el("table", { "aria-labelledby": id },
    el("thead", {}, el("tr", {}, columns.map((column) => el("th", { scope: "col" }, column)))), body);
  const none = el("p.empty", {}, empty, command && el("code", {}, command));
  const node = el("section.card", { "aria-labelledby": id }, el("h2", { id }, title), none, table);
  const sync = keyed(body, make);
  return {
    node,
    draw(items, keyOf) {
      none.hidden = items.length > 0;
      table.hidden = items.length === 0;
      sync(items, keyOf);
    },
  };
}

const cell = (label, ...children) => el("td", { "data-label": label }, ...children);

function llmRow({ pool, row }) {
  return pool === undefined ? singleRow(row.name) : poolRow(pool);
}

function poolRow(pool) {
  const size = el("span.note");
  const node = el("tr.pool", {}, el("th", { scope: "row", colspan: 6 }, "Pool ",
    el("a", { href: `#/llm/${encodeURIComponent(pool)}` }, pool), " ", size));
  return {
    node,
    update({ members }) {
      const ready = members.filter((row) => row.status !== "inactive").length;
      text(size, `${ready} of ${members.length} ready`);
    },
  };
}

function singleRow(name) {
  const status = pill();
  const [model, work, speed, seen, lock] = [el("span.mono"), el("span"), el("span"), el("span"), el("span.note")];
  const node = el("tr", {},
    el("th", { scope: "row" }, el("a", { href: `#/llm/${encodeURIComponent(name)}` }, name), " ", lock),
    cell("Status", status.node), cell("Model", model), cell("Work", work), cell("Tokens/s", speed), cell("Seen", seen));
  return {
    node,
    update({ row, member }) {
      node.classList.toggle("member", Boolean(member));
      status.set(row.waking ? "waking" : row.status);
      text(lock, row.visibility === "private" ? "private" : "");
      text(model, row.model);
      text(work, row.room === null ? count(row.busy) : `${row.busy} of ${row.room}`);
      text(speed, rate(row.tokensPerSecond));
      text(seen, row.kind === "public" ? "upstream" : seenAt(row));
    },
  };
}

function publisherRow({ id }) {
  const state = pill();
  const [user, llms, seen] = [el("span"), el("span"), el("span")];
  const node = el("tr", {}, el("th.mono.clip", { scope: "row", title: id }, id),
    cell("State", state.node), cell("User", user), cell("LLMs", llms), cell("Seen", seen));
  return {
    node,
    update(one) {
      state.set(one.status);
      text(user, one.ownerId);
      text(llms, one.llms.join(", ") || "–");
      text(seen, seenAt(one));
    },
  };
}

function taskRow() {
  const status = pill();
  const [name, user, kind, began, why] = [el("span"), el("span"), el("span"), el("span"), el("span.note")];
  const node = el("tr", {}, el("th", { scope: "row" }, name),
    cell("Status", status.node, " ", why), cell("User", user), cell("Kind", kind), cell("Began", began));
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
