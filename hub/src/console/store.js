// Conversations in this browser's IndexedDB: of one user of one hub, bounded. Nothing of them is ever sent anywhere else.

import { path } from "./api.js";
import { newId } from "./conversation.js";

/** Most conversations of a user, and characters of all of them: what was changed longest ago is deleted beyond. */
const MOST = 200;
const MOST_TEXT = 64 * 1024 * 1024;

let opened;

/** When each conversation of this tab was last written, as far as the tab knows. */
const known = new WeakMap();

/** The database; undefined where the browser keeps none (a private window). One for each path, as several hubs may share an origin. */
function database() {
  opened ??= new Promise((resolve) => {
    try {
      const request = indexedDB.open(`virtual-llm${path}`, 1);
      request.onupgradeneeded = () => {
        request.result.createObjectStore("heads", { keyPath: "id" }).createIndex("user", "user");
        request.result.createObjectStore("bodies", { keyPath: "id" });
      };
      request.onsuccess = () => resolve(request.result);
      request.onerror = request.onblocked = () => resolve(undefined);
    } catch {
      resolve(undefined);
    }
  });
  return opened;
}

const done = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

/** Runs `work(heads, bodies)` in one transaction, and waits until it is written. */
async function within(mode, work) {
  const db = await database();
  if (!db) return undefined;
  const transaction = db.transaction(["heads", "bodies"], mode);
  const ended = new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = transaction.onerror = () => reject(transaction.error);
  });
  const result = await work(transaction.objectStore("heads"), transaction.objectStore("bodies"));
  await ended;
  return result;
}

/** Whether conversations outlast this tab. */
export const keeps = async () => (await database()) !== undefined;

const newest = (a, b) => b.updated - a.updated;

/** `{ id, user, title, updated, size }` of each conversation of `user`, the newest first. */
export async function list(user) {
  const heads = await within("readonly", (heads) => done(heads.index("user").getAll(user)));
  return (heads ?? []).sort(newest);
}

/** A conversation of `user`, if there is one with this id. */
export async function load(user, id) {
  const body = await within("readonly", (_, bodies) => done(bodies.get(id)));
  if (body?.user !== user) return undefined;
  const conversation = JSON.parse(body.text);
  known.set(conversation, conversation.updated);
  return conversation;
}

/** Writes a conversation, and deletes the oldest others beyond the bounds. One that another tab has written meanwhile gets a new id, so that both are kept. */
export const save = (conversation) => within("readwrite", async (heads, bodies) => {
  const all = await done(heads.index("user").getAll(conversation.user));
  const stored = all.find(({ id }) => id === conversation.id);
  if (stored?.updated > (known.get(conversation) ?? 0)) conversation.id = newId();
  const { id, user, title, updated } = conversation;
  known.set(conversation, updated);
  const text = JSON.stringify(conversation);
  heads.put({ id, user, title, updated, size: text.length });
  bodies.put({ id, user, text });
  let [count, size] = [1, text.length];
  for (const other of all.filter((other) => other.id !== id).sort(newest)) {
    size += other.size;
    if (++count <= MOST && size <= MOST_TEXT) continue;
    heads.delete(other.id);
    bodies.delete(other.id);
  }
});

/** Gives a stored conversation another title, whichever tab wrote it last. */
export const rename = (user, id, title) => within("readwrite", async (heads, bodies) => {
  const [head, body] = [await done(heads.get(id)), await done(bodies.get(id))];
  if (head?.user !== user || !body) return;
  heads.put({ ...head, title });
  bodies.put({ ...body, text: JSON.stringify({ ...JSON.parse(body.text), title }) });
});

export const remove = (id) => within("readwrite", (heads, bodies) => {
  heads.delete(id);
  bodies.delete(id);
});

/** Deletes all conversations of `user`. */
export async function clear(user) {
  for (const { id } of await list(user)) await remove(id);
}
