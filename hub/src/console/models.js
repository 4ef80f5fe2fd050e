// What can be asked, in groups with its state: models, pools, agents, aliases. Pure functions of the hub's lists.

/** States, the best first: a pool has the best of its members. */
const STATES = ["ready", "busy", "waking", "asleep", "away"];

/** The state of a row: `ready`, `busy` (no place is free), `waking`, `asleep` or `away`. */
export function stateOf(row) {
  if (row.waking) return "waking";
  if (row.status === "hibernating") return "asleep";
  if (row.status !== "active") return "away";
  return typeof row.room === "number" && row.room > 0 && row.busy >= row.room ? "busy" : "ready";
}

/** The best of several states; `away` of none. */
export const best = (states) => STATES[Math.min(...states.map((state) => STATES.indexOf(state)), STATES.length - 1)];

/** Whether a row serves the pool, and does not wait to be let in. */
export const serves = (pool) => (row) => row.poolName === pool && !row.waitsFor;

/** Rows by the pool that they serve. */
export function poolsOf(rows) {
  const pools = new Map();
  for (const row of rows) {
    if (!row.poolName || row.waitsFor) continue;
    if (pools.has(row.poolName)) pools.get(row.poolName).push(row);
    else pools.set(row.poolName, [row]);
  }
  return pools;
}

const { compare } = new Intl.Collator("en", { numeric: true });
export const byName = (a, b) => compare(a.name, b.name);

/** The groups of the chat's list: `{ label, choices: [{ name, state, vision, of }] }`. `listed` is the data of `/v1/models`, `agents` and `aliases` are those lists of the API. Models that only embed cannot be asked. */
export function groups({ user, rows, listed = [], agents = [], aliases = [] }) {
  const known = new Map(listed.map((model) => [model.id, model]));
  const can = (name, row) => known.get(name)?.capabilities ?? row?.capabilities ?? {};
  const pools = poolsOf(rows);
  const byRow = new Map(rows.map((row) => [row.name, row]));
  const taken = new Set();
  const choice = (name, state, row, mine) => {
    if (taken.has(name) || can(name, row).embeddings) return undefined;
    taken.add(name);
    return { name, state, vision: can(name, row).vision === true, mine };
  };
  const stateOfName = (name) => {
    if (byRow.has(name)) return stateOf(byRow.get(name));
    if (pools.has(name)) return best(pools.get(name).map(stateOf));
    return { active: "ready", hibernating: "asleep" }[known.get(name)?.status] ?? "away";
  };
  const pooled = [...pools].map(([name, members]) => choice(name, best(members.map(stateOf)), members[0], members.some((row) => row.ownerId === user)));
  const single = rows.map((row) => choice(row.name, stateOf(row), row, row.ownerId === user));
  const asAgents = agents.map((agent) => {
    const state = agent.status === "inactive" ? "away" : agent.llmName ? stateOfName(agent.llmName) : stateOfName(agent.name);
    return choice(agent.name, state, undefined, agent.ownerId === user);
  });
  const others = [...aliases.filter((alias) => !alias.name.endsWith("*")).map((alias) => alias.name), ...known.keys()];
  const asAliases = others.map((name) => choice(name, stateOfName(name), undefined, false));
  const sorted = (choices) => choices.filter(Boolean).sort(byName);
  return [
    { label: "Your models", choices: sorted(single.filter((one) => one?.mine)) },
    { label: "Pools", choices: sorted(pooled) },
    { label: "Models", choices: sorted(single.filter((one) => !one?.mine)) },
    { label: "Agents", choices: sorted(asAgents) },
    { label: "Aliases", choices: sorted(asAliases) },
  ].filter(({ choices }) => choices.length);
}

/** What a new conversation begins with: the first that is ready, the user's own first, else the first of all. */
export function firstChoice(groups) {
  const all = groups.flatMap(({ choices }) => choices);
  return (all.find(({ state }) => state === "ready") ?? all.find(({ state }) => state !== "away") ?? all[0])?.name ?? "";
}
