/** The frame: which view is open, what is dropped or pasted, colours, tokens, and a server that went away. */

import { catalog, forget, link, lost, signIn, watchIndexing } from "./api.js";
import { announce, capital, fill, h, icon, number } from "./dom.js";
import { go, onChange, read } from "./state.js";
import * as search from "./views/search.js";

const VIEWS = {
  search: async () => search,
  item: () => import("./views/item.js"),
  map: () => import("./views/map.js"),
  make: () => import("./views/make.js"),
  status: () => import("./views/status.js"),
};
const [main, banner, theme, drop, indexing] = ["main", "banner", "theme", "drop", "indexing"]
  .map((id) => document.getElementById(id));
const made = {}; // views keep what is in them while others are open
let open = null;

async function show() {
  const state = read();
  const name = VIEWS[state.view] ? state.view : "search";
  made[name] ??= (await VIEWS[name]()).view();
  if (read().view !== state.view) return; // somebody was faster
  const view = made[name];
  if (open !== view) {
    open?.hide?.();
    fill(main, view.node);
    if (open) {
      scrollTo(0, 0);
      main.focus({ preventScroll: true });
      announce(capital(name));
    }
    open = view;
    for (const anchor of document.querySelectorAll("nav a")) {
      if (anchor.dataset.view === name) anchor.setAttribute("aria-current", "page");
      else anchor.removeAttribute("aria-current");
    }
  }
  try {
    await view.show(state);
  } catch (error) {
    fill(main, h("div", { class: "empty", role: "alert" }, h("h1", {}, "That did not work"), h("p", {}, capital(error.message))));
    open = null;
  }
  document.title = [view.title?.(read()), name === "search" ? null : capital(name), "embedspace"].filter(Boolean).join(" · ");
}

// Links within the page change the state; the words that were asked go along from view to view.
addEventListener("click", (event) => {
  const anchor = event.target.closest?.("a[href]");
  const plain = !(event.metaKey || event.ctrlKey || event.shiftKey || event.button);
  if (!anchor || !plain || anchor.target || anchor.hasAttribute("download")) return;
  const url = new URL(anchor.href);
  if (url.origin !== location.origin || url.pathname !== "/") return;
  event.preventDefault();
  if (anchor.classList.contains("brand")) history.pushState(null, "", "/");
  else if (anchor.dataset.view) return go({ view: anchor.dataset.view, item: undefined, job: undefined, find: undefined });
  else history.pushState(null, "", url.search || "/");
  show();
});
onChange(show);

// Files from anywhere on the page go to the query bar of the open view.
const carries = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
async function take(list, where = {}) {
  if (!open?.files) {
    go({ view: "search", item: undefined });
    await show();
  }
  open.files([...list], where);
}
// A view says what becomes of what is dropped; where there are several ways each has a part of the page.
let inside = 0;
const zoneOf = ({ clientX }) => Math.max(0, Math.min(drop.children.length - 1, Math.floor((clientX / innerWidth) * drop.children.length)));
addEventListener("dragenter", (event) => {
  if (!carries(event)) return;
  if (++inside === 1) fill(drop, (open?.drops?.() ?? ["Drop it to search with it"]).map((text) => h("p", {}, text)));
  drop.hidden = inside < 1;
});
addEventListener("dragleave", (event) => carries(event) && (drop.hidden = --inside < 1));
addEventListener("dragover", (event) => {
  if (!carries(event)) return;
  event.preventDefault();
  const zone = zoneOf(event);
  [...drop.children].forEach((node, place) => node.classList.toggle("over", place === zone));
});
addEventListener("drop", (event) => {
  inside = 0;
  drop.hidden = true;
  if (!carries(event)) return;
  event.preventDefault();
  take(event.dataTransfer.files, { zone: zoneOf(event) });
});
addEventListener("paste", (event) => {
  if (!event.clipboardData?.files.length) return;
  event.preventDefault();
  take(event.clipboardData.files, { at: event.target });
});
addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.target.closest?.("input, textarea, select")) return;
  event.preventDefault();
  document.querySelector(".words")?.focus();
});

// Colours: as the system has them, light, dark.
const THEMES = ["system", "light", "dark"];
function paint(chosen) {
  if (chosen === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
  theme.setAttribute("aria-label", `Colours: ${chosen === "system" ? "as the system" : chosen}`);
  theme.title = theme.getAttribute("aria-label");
  fill(theme, icon(chosen));
  dispatchEvent(new Event("painted"));
}
theme.onclick = () => {
  const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme ?? "system") + 1) % 3];
  try {
    localStorage.setItem("theme", next);
  } catch { /* it holds until the page is left */ }
  paint(next);
};
paint(document.documentElement.dataset.theme ?? "system");

link.addEventListener("lost", () => {
  banner.hidden = false;
  fill(banner, h("span", {}, "The server does not answer. What you asked waits until it is back. "),
    h("button", { type: "button", class: "link", onclick: () => link.tryNow() }, "Try now"));
});
link.addEventListener("back", () => {
  fill(banner, "The server is back.");
  setTimeout(() => banner.textContent === "The server is back." && (banner.hidden = true), 2500);
});
addEventListener("offline", lost);

link.addEventListener("token", () => {
  const field = h("input", { type: "password", id: "token", autocomplete: "current-password", required: true });
  const wrong = h("p", { class: "note", role: "alert" });
  const dialog = h("dialog", { "aria-labelledby": "token-title" }, h("form", {
    async onsubmit(event) {
      event.preventDefault();
      if (await signIn(field.value).catch(() => false)) dialog.remove();
      else wrong.textContent = "The server does not take this token.";
    },
  }, h("h2", { id: "token-title" }, "This server asks for a token"),
  h("label", { htmlFor: "token" }, "The one that it was started with"), field, wrong,
  h("button", { type: "submit", class: "primary" }, "Go on")));
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  document.body.append(dialog);
  dialog.showModal();
});

// What is being indexed, wherever one is; where nothing is watched nothing is asked for.
async function watchFolders() {
  if (!(await catalog()).watching.length) return;
  watchIndexing((told) => {
    const { running = false, done = 0, total = null } = told ?? {};
    const ended = !running && !indexing.hidden;
    indexing.hidden = !running;
    if (ended) {
      forget(); // the catalog holds more now
      if (open === made.search) open.refresh();
    }
    if (!running) return;
    const bar = h("progress", { max: 1, "aria-hidden": "true" });
    if (total) bar.value = done / total;
    fill(indexing, h("span", {}, "Indexing ", h("b", {}, number(done)), total ? ` of ${number(total)}` : ""), bar);
  });
}

const given = /^#token=(.+)$/.exec(location.hash)?.[1];
if (given) {
  history.replaceState(null, "", location.pathname + location.search);
  await signIn(decodeURIComponent(given)).catch(() => {});
}
watchFolders().catch(() => {});
await show();
if (open === made.search) made.search.focus();
