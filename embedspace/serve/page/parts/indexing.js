/** How far indexing is: one stream of events for the header and the Status page, closed while nobody looks. */

import { listen } from "../api.js";

const watchers = new Set();
let [stop, last] = [null, null];

function open() {
  stop ??= listen("/api/index/events", {
    state(state) {
      last = state;
      for (const watcher of watchers) watcher(state);
    },
  }, () => {
    close();
    for (const watcher of watchers) watcher(null);
  });
}

function close() {
  stop?.();
  [stop, last] = [null, null];
}

/** Call a function with the state of indexing, now and whenever it changes, null where it is not told; returns what ends that. */
export function watchIndexing(watcher) {
  watchers.add(watcher);
  if (last) watcher(last);
  open();
  return () => watchers.delete(watcher) && !watchers.size && close();
}

document.addEventListener("visibilitychange", () => (document.hidden ? close() : watchers.size && open()));
