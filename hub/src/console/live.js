// What the hub looks like now: the snapshot and its changes from /api/v1/events, for all pages.

import { events, Refused, request } from "./api.js";
import { nextFrame } from "./dom.js";

/** First and longest wait before another try, in ms: a hub that restarts is back within a second or two. */
const FIRST = 1000;
const LONGEST = 30_000;

/** Things by their names, which publishers choose: without a prototype no name is taken (`__proto__`, `constructor`). */
const things = () => Object.create(null);
const nothing = () => ({ llms: things(), publishers: things(), tasks: things(), totals: things() });

export const live = Object.assign(things(), { caller: undefined, state: "off" }, nothing());

const watchers = new Set();
let abort;
let planned = false;

/** Calls `draw` after changes until the function that this returns is called. */
export function watch(draw) {
  watchers.add(draw);
  return () => watchers.delete(draw);
}

/** Has the watchers draw in the next frame: once, however many changes come until then. */
function tell() {
  if (planned) return;
  planned = true;
  nextFrame(() => {
    planned = false;
    for (const draw of watchers) draw(live);
  });
}

function say(state) {
  if (live.state === state) return;
  live.state = state;
  tell();
}

function apply(change) {
  for (const [section, changed] of Object.entries(change)) {
    for (const [key, thing] of Object.entries(changed)) {
      if (thing === null) delete live[section]?.[key];
      else (live[section] ??= things())[key] = thing;
    }
  }
}

/** Connects and stays connected. The first try's failure is thrown, later ones are retried. */
export async function connect() {
  disconnect();
  abort = new AbortController();
  const { signal } = abort;
  const answer = await request("GET", "api/v1/events", { signal });
  stay(answer, signal);
}

export function disconnect() {
  abort?.abort();
  abort = undefined;
  Object.assign(live, { caller: undefined, state: "off" }, nothing());
}

async function stay(answer, signal) {
  let wait = FIRST;
  for (;;) {
    try {
      answer ??= await request("GET", "api/v1/events", { signal });
      for await (const { event, data } of events(answer)) {
        if (signal.aborted) return;
        const said = JSON.parse(data);
        if (event === "hello") live.caller = said;
        if (event === "snapshot") {
          Object.assign(live, nothing());
          live.state = "live";
          wait = FIRST;
        }
        if (event === "snapshot" || event === "change") {
          apply(said);
          tell();
        }
      }
    } catch (error) {
      if (error instanceof Refused && error.status === 401) return;
    }
    if (signal.aborted) return;
    answer = undefined;
    say("away");
    await new Promise((resume) => setTimeout(resume, wait * (0.5 + Math.random())));
    if (signal.aborted) return;
    wait = Math.min(wait * 2, LONGEST);
  }
}
