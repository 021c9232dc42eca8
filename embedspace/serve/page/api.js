/** The server: requests that wait for it when it is away, its errors in its own words, and its streams of events. */

/** What the server refused, with its own sentence. */
export class ApiError extends Error {
  constructor(status, { message, code, param } = {}) {
    super(message || `the server answered ${status}`);
    Object.assign(this, { status, code, param });
  }
}

/** "lost", "back" and "token" (it asks for one) are dispatched here. */
export const link = new EventTarget();
let away = null; // while the server is away: a promise of its return
let trying = 0;
let asking = null; // while a token is asked for: a promise of it

const tell = (name) => link.dispatchEvent(new Event(name));
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Say that the server does not answer; returns a promise of its return. Asked again at 0.5, 1, 2 and then every 4 seconds. */
export function lost() {
  if (away) return away;
  let returned;
  away = new Promise((resolve) => (returned = resolve));
  tell("lost");
  const attempt = async (wait) => {
    try {
      const answer = await fetch("/health", { cache: "no-store" });
      if (answer.ok) {
        away = null;
        tell("back");
        return returned();
      }
    } catch { /* still away */ }
    trying = setTimeout(attempt, wait, Math.min(4000, wait * 2));
    link.tryNow = () => (clearTimeout(trying), attempt(wait));
  };
  trying = setTimeout(attempt, 500, 1000);
  link.tryNow = () => (clearTimeout(trying), attempt(1000));
  return away;
}

function token() {
  asking ??= new Promise((resolve) => {
    link.addEventListener("token-given", resolve, { once: true });
    tell("token");
  }).finally(() => (asking = null));
  return asking;
}

/** Trade a token for this browser's cookie; true where the server takes it. */
export async function signIn(value) {
  const answer = await fetch("/session", {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ token: value }),
  });
  if (answer.ok) tell("token-given");
  return answer.ok;
}

/**
 * Ask the server; returns what it answers. While it is away, busy (429) or starting (503) the request waits and is made
 * again, so nothing that was asked is lost. Throws ApiError for what it refuses, AbortError when `signal` says so.
 */
export async function call(path, { method = "GET", body, type, signal } = {}) {
  const json = body !== undefined && !type;
  const headers = body === undefined ? {} : { "Content-Type": type ?? "application/json" };
  for (let busy = 0; ; ) {
    signal?.throwIfAborted();
    let answer;
    try {
      answer = await fetch(path, { method, headers, body: json ? JSON.stringify(body) : body, signal });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      await lost();
      continue;
    }
    if (answer.ok) return answer.status === 204 ? null : answer.json();
    if (answer.status === 401) {
      await token();
      continue;
    }
    if ([429, 503].includes(answer.status) && busy++ < 8) {
      await pause(1000 * Math.min(10, Number(answer.headers.get("Retry-After")) || 1));
      continue;
    }
    const told = await answer.json().catch(() => ({}));
    throw new ApiError(answer.status, told.error);
  }
}

/** Return what the server is told a file is: of what is no medium the name alone says it, since a type that any page could send is refused. */
export const typeOf = ({ type }) => (/^(image|audio|video)\//.test(type) ? type : "application/octet-stream");

let catalogs = null;
/** Return what the catalog holds; asked once, and again after `forget`. */
export const catalog = () => (catalogs ??= call("/api/catalog").catch((error) => ((catalogs = null), Promise.reject(error))));
export const forget = () => (catalogs = null);

/**
 * Listen to a stream of events: name -> function of its data. Returns a function that ends it. The browser takes a broken
 * stream up again by itself; one that the server refuses ends with `refused`.
 */
export function listen(path, handlers, refused = () => {}) {
  const source = new EventSource(path);
  for (const [name, handler] of Object.entries(handlers)) {
    source.addEventListener(name, (event) => event.data !== undefined && handler(JSON.parse(event.data)));
  }
  source.onerror = (event) => {
    if (event.data !== undefined) return; // an event of the stream that is called "error"
    if (source.readyState === EventSource.CLOSED) refused();
    else fetch("/health", { cache: "no-store" }).catch(lost);
  };
  return () => source.close();
}

const watchers = new Set();
let [end, told] = [null, null]; // of the stream that says how far indexing is: one for the header and the Status page

function open() {
  end ??= listen("/api/index/events", {
    state(state) {
      told = state;
      for (const watcher of watchers) watcher(state);
    },
  }, () => {
    close();
    for (const watcher of watchers) watcher(null);
  });
}

function close() {
  end?.();
  [end, told] = [null, null];
}

/** Call a function with the state of indexing, now and whenever it changes, null where it is not told; returns what ends that. */
export function watchIndexing(watcher) {
  watchers.add(watcher);
  if (told) watcher(told);
  open();
  return () => watchers.delete(watcher) && !watchers.size && close();
}

document.addEventListener("visibilitychange", () => (document.hidden ? close() : watchers.size && open())); // nobody looks
