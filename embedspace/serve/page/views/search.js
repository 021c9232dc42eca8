/** The search: the query bar, filters, and what was found. */

import { announce, called, capital, fill, h, icon, number, percent } from "../dom.js";
import { call, catalog } from "../api.js";
import { go, read } from "../state.js";
import { inWords, queryBar } from "../parts/query.js";
import { asked, isExpired, remember, revive } from "../terms.js";

const WAYS = [
  ["file", "Drop or paste a picture, a sound or a video anywhere on this page"],
  ["mic", "Say what you look for, or let it hear a sound"],
  ["plus", "Add and take away: ", h("code", {}, "horse + stripes − grass")],
];
const FIRST = 24;
const MOST = 192;
const hits = () => import("../parts/hits.js");

/** Make the view; returns {node, title, show(state), refresh(), files(list)}. */
export function view() {
  let running = null;
  let shown = "";
  const bar = queryBar({ verb: "Search", submit: (terms) => go({ terms, k: undefined }), soon: hits });
  const filters = h("div", { class: "filters" });
  const found = h("div", { class: "found", "aria-busy": "false" });
  const node = h("div", { class: "search" }, h("h1", { class: "unseen" }, "Search"), bar.node, filters, found);

  async function drawFilters(state) {
    const { counts, fields, calibrated } = await catalog();
    const kinds = Object.keys(counts);
    const pick = (changes) => go({ ...changes, k: undefined });
    const choice = (value, label) => h("button", {
      type: "button", class: "choice", "aria-pressed": String((state.to ?? "") === value), onclick: () => pick({ to: value }),
    }, label);
    const chances = [["", "Any probability"], ...[0.1, 0.25, 0.5, 0.75, 0.9].map((p) => [p, `At least ${percent(p)}`])];
    const held = filters.contains(document.activeElement) ? document.activeElement.dataset.key ?? document.activeElement.textContent : null;
    fill(filters,
      h("div", { class: "choices", role: "group", "aria-label": "What to find" },
        choice("", "Everything"), kinds.map((kind) => choice(kind, capital(called(kind))))),
      h("div", { class: "rest" },
        calibrated && h("select", {
          "aria-label": "Probability", "data-key": "p", onchange: (event) => pick({ p: event.target.value || undefined }),
        }, chances.map(([value, label]) => h("option", { value, selected: String(state.p ?? "") === String(value) }, label))),
        !state.to && kinds.length > 1 && h("button", {
          type: "button", class: "quiet", "data-key": "group", "aria-pressed": String(state.group),
          onclick: () => go({ group: !state.group }),
        }, "By kind"),
        h("button", {
          type: "button", class: "quiet", "data-key": "where", "aria-expanded": String(Boolean(node.querySelector(".where"))),
          onclick: openWhere,
        }, state.where ? "Filter ·" : "Filter")),
      state.where && !node.querySelector(".where") && h("p", { class: "current" }, h("code", {}, state.where), " ",
        h("button", { type: "button", class: "link", onclick: () => pick({ where: undefined }) }, "Clear the filter")));
    if (held) [...filters.querySelectorAll("button, select")].find((one) => (one.dataset.key ?? one.textContent) === held)?.focus();

    async function openWhere() {
      const open = node.querySelector(".where");
      if (open) open.remove();
      else {
        const { builder } = await import("../parts/where.js");
        filters.after(builder(fields, read().where, (where) => go({ where, k: undefined })));
        node.querySelector(".where select, .where button").focus();
      }
      drawFilters(read());
    }
  }

  async function run(state) {
    running?.abort();
    const own = (running = new AbortController());
    const body = {
      terms: asked(state.terms), to: state.to || null, k: state.k ?? FIRST, where: state.where || null,
      min_probability: state.p ?? null, grouped: state.group && !state.to, prepare: 15,
    };
    found.setAttribute("aria-busy", "true");
    try {
      const [answer, parts] = await Promise.all([
        call("/api/search", { method: "POST", body, signal: own.signal }), hits()]);
      answer.terms.forEach((told, at) => {
        const term = state.terms[at];
        if (term && term.text === undefined) remember(term, told.label, told.as);
      });
      bar.show(state.terms);
      draw(answer, parts, state);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (isExpired(error, state.terms)) {
        const again = await revive(state.terms).catch(() => null);
        if (again) return go({ terms: again }, { replace: true });
      }
      failed(error);
    } finally {
      if (running === own) found.setAttribute("aria-busy", "false");
    }
  }

  const failed = (error) => fill(found, h("div", { class: "empty", role: "alert" },
    h("h2", {}, "That did not work"), h("p", {}, capital(error.message))));

  function draw(answer, { cards, sections }, state) {
    const options = { add: bar.add };
    const all = answer.hits;
    const total = answer.groups ? Object.values(answer.groups).flat().length : all.length;
    const list = answer.groups ? sections(answer.groups, options) : cards(all, options, state.to ?? "");
    const weak = answer.good_match === false;
    const more = total >= (state.k ?? FIRST) && (state.k ?? FIRST) < MOST && h("button", {
      type: "button", class: "more", onclick: () => go({ k: Math.min(MOST, 2 * (state.k ?? FIRST)) }, { replace: true }),
    }, "Show more");
    const notes = answer.notes.length > 0 && h("ul", { class: "notes" }, answer.notes.map((note) => h("li", {}, capital(note))));
    const words = weak || !total ? "No good match" : `${number(total)} ${total === 1 ? "result" : "results"}`;
    const line = h("p", { class: "summary" }, `${words} in ${number(Math.max(1, Math.round(answer.took_ms)))} ms`);
    if (!total) {
      const why = state.where || state.p || state.to ? "Nothing passes the filters. Loosen them, or ask for something else."
        : "The catalog holds nothing that can be compared with this.";
      fill(found, h("div", { class: "empty" }, h("h2", {}, "No good match"), h("p", {}, why)), notes);
    } else if (weak) {
      fill(found, h("div", { class: "empty" }, h("h2", {}, "No good match"),
        h("p", {}, "Nothing here is likely to be what you are looking for.")),
      h("details", { class: "weak" }, h("summary", {}, `Show the ${number(total)} nearest all the same`), list, more), notes);
    } else fill(found, line, notes, list, more);
    announce(words);
  }

  async function home() {
    running?.abort();
    const { items, counts, name } = await catalog().catch((error) => (failed(error), {}));
    if (!counts) return;
    const held = Object.entries(counts).map(([kind, count]) => called(kind, count)).join(", ");
    fill(found, h("div", { class: "home" },
      h("p", { class: "lead" }, items ? "Ask with words, a picture, a sound or your voice." : "This catalog is empty."),
      h("p", {}, items ? [h("strong", {}, name), " holds ", held, "."]
        : "What is indexed appears here. The Status page shows what is being read."),
      h("ul", { class: "ways" }, WAYS.map(([sign, ...said]) => h("li", {}, icon(sign), h("span", {}, said))))));
  }

  return {
    node,
    files: bar.files,
    focus: bar.focus,
    title: (state) => (state.terms.length ? inWords(state.terms) : ""),
    /** Draw anew what the catalog holds; what was found or typed stays. */
    refresh() {
      drawFilters(read()).catch(() => {});
      if (!read().terms.length) home();
    },
    async show(state) {
      bar.show(state.terms);
      drawFilters(state).catch(() => {});
      const key = JSON.stringify([state.terms, state.to, state.k, state.where, state.p, state.group]);
      if (key === shown) return;
      shown = key;
      await (state.terms.length ? run(state) : home());
    },
  };
}
