// Numbers and times as people read them.

/** `41 s`, `3 min`, `5 h`, `2 d` since a moment. */
export function age(time, now = Date.now()) {
  if (!time) return "–";
  const seconds = Math.max(0, (now - Date.parse(time)) / 1000);
  if (seconds < 1.5) return "now";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`;
  if (seconds < 36 * 3600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

export function ago(time, now) {
  const since = age(time, now);
  return since === "now" || since === "–" ? since : `${since} ago`;
}

/** When a row or a publisher gave a sign of life. One that is there gave one just now: else the hub would call it away. */
export function seen(one) {
  const away = one.status === "inactive" || one.status === "away";
  return away || !one.lastHeartbeatAt ? ago(one.lastHeartbeatAt) : "now";
}

export function millis(ms) {
  if (ms === undefined || ms === null) return "–";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
  return `${(ms / 60_000).toFixed(1)} min`;
}

export function rate(tokens) {
  if (!tokens) return "0";
  return tokens < 10 ? tokens.toFixed(1) : Math.round(tokens).toLocaleString("en");
}

export const percent = (number) => (number === undefined || number === null ? "–" : `${number} %`);

export const count = (number) => (number === undefined || number === null ? "–" : number.toLocaleString("en"));

/** The clock time of a moment, with the date unless it is today. */
export function moment(time) {
  if (!time) return "–";
  const date = new Date(time);
  const today = date.toDateString() === new Date().toDateString();
  return today ? date.toLocaleTimeString() : date.toLocaleString();
}

/** The middle of sorted numbers. */
export function median(numbers) {
  const sorted = numbers.filter((number) => Number.isFinite(number)).sort((a, b) => a - b);
  return sorted.length ? sorted[Math.floor((sorted.length - 1) / 2)] : undefined;
}
