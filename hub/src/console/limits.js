// What admins allow a user or a token, and what is left of its tokens of today.

import { el } from "./dom.js";
import { age, count } from "./format.js";

const DAY = 86_400_000;

/** `5 h`: budgets begin anew with the day of UTC. */
const untilReset = (now = Date.now()) => age(new Date(now).toISOString(), now + DAY - (now % DAY));

/** The budget of a day as a bar, and in words. */
function budget(whose, { tokensPerDay: most, tokensToday: used = 0 }) {
  const isUsedUp = used >= most;
  const words = `${count(used)} of ${count(most)} tokens today`;
  return el(isUsedUp ? "div.budget.used-up" : "div.budget", {}, el("span", {}, words),
    el("progress", { max: most, value: Math.min(used, most), "aria-label": `${whose}: ${words}` }),
    el("span.note", {}, `${isUsedUp ? "Used up. Begins" : "Begins"} anew at 00:00 UTC, in ${untilReset()}`));
}

/** The limits of a user or a token, whose name is `whose`; undefined if there are none. */
export function limits(whose, of) {
  const { models, tokensPerDay, requestsPerMinute, maxConcurrent } = of ?? {};
  const words = [requestsPerMinute && `${count(requestsPerMinute)} requests a minute`,
    maxConcurrent && `${count(maxConcurrent)} ${maxConcurrent === 1 ? "call" : "calls"} at a time`,
    models && `only ${models.join(", ")}`].filter(Boolean).join(" · ");
  if (!words && !tokensPerDay) return undefined;
  return el("div.limits", {}, tokensPerDay && budget(whose, of), words && el("span", {}, words));
}

/** The limits of several: pairs of a name and limits. Without any it is hidden. */
export function limitsCard(title, pairs) {
  const lines = pairs.map(([whose, of]) => [whose, limits(whose, of)]).filter(([, node]) => node);
  return el("section.card", { "aria-labelledby": "limits", hidden: !lines.length }, el("h2", { id: "limits" }, title),
    el("dl.facts.owners", {}, lines.map(([whose, node]) => el("div", {}, el("dt", {}, whose), el("dd", {}, node)))));
}
