// Requests to the hub. The token lives in this tab's session storage and goes out as a bearer header, nowhere else.

/** Where the hub is: this file is at `console/api.js` below it, whatever path a proxy puts in front. */
const HUB = new URL("..", import.meta.url);

/** The hub's address as this page was reached, without a trailing slash. */
export const address = HUB.href.replace(/\/+$/, "");

/** Its path, which tells hubs of one origin apart. */
export const path = HUB.pathname;

/** One for each path, as several hubs may share an origin. */
const KEY = `virtual-llm-token${path}`;

let token = sessionStorage.getItem(KEY);
let onEnd = () => {};

/** Calls `ended` when the hub no longer takes the token. */
export function whenRefused(ended) {
  onEnd = ended;
}

export const hasToken = () => token !== null;

export function keepToken(secret) {
  token = secret;
  if (secret === null) sessionStorage.removeItem(KEY);
  else sessionStorage.setItem(KEY, secret);
}

/** What the hub said when it did not do what was asked: the status of its answer and the code of SPEC.md section 5.1. */
export class Refused extends Error {
  constructor(status, message, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** The answer to a request, its path from the hub's address; anything but 2xx is thrown as `Refused`. `wait` is how many seconds a call may wait for a free place; `secret` is sent instead of the token. */
export async function request(method, path, { body, signal, wait, secret } = {}) {
  const sent = secret ?? token;
  const headers = { authorization: `Bearer ${sent}` };
  if (wait) headers["x-queue-timeout"] = String(wait);
  if (body !== undefined) headers["content-type"] = "application/json";
  const guarded = { cache: "no-store", credentials: "omit", redirect: "error", referrerPolicy: "no-referrer" };
  const answer = await fetch(new URL(path, HUB), { method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal, ...guarded });
  if (answer.ok) return answer;
  const said = await answer.text().catch(() => "");
  if (answer.status === 401 && sent !== null && sent === token) onEnd();
  const { message, code } = fault(said) ?? { message: `the hub answered ${answer.status}` };
  throw new Refused(answer.status, message, code);
}

export async function json(method, path, options) {
  const answer = await request(method, path, options);
  const body = await answer.text();
  return body ? JSON.parse(body) : undefined;
}

/** The sentence and the code in an error body of either API; undefined if it is none. */
export function fault(said) {
  try {
    const { error, code } = JSON.parse(said);
    if (typeof error === "string") return { message: error, code };
    return typeof error?.message === "string" ? { message: error.message, code: error.code } : undefined;
  } catch {
    return undefined;
  }
}

/** The events of an event stream: `{ event, data }`. Ends when the stream does. */
export async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = "";
  let data = [];
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const raw of lines) {
        const line = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
        if (line === "") {
          if (data.length) yield { event: event || "message", data: data.join("\n") };
          event = "";
          data = [];
        } else if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
        else if (line.startsWith("event:")) event = line.slice(6).trim();
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
