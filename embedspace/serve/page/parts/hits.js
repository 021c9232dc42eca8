/** Hits as people see them: pictures, waveforms, snippets, how probable they are, and what can be done with them. */

import { called, capital, clock, h, icon, iconButton, number, one, percent } from "../dom.js";
import { film, silence, waveform } from "./player.js";
import { address, filtersOf, go, read } from "../state.js";
import { remember } from "../terms.js";

const SOON = 15; // cards that fill a first screen

/** Return the term that a hit becomes in a query. */
function termOf(hit, weight = 1) {
  const term = { id: hit.id, weight, as: hit.modality === "text" ? null : hit.modality };
  remember(term, hit.name, hit.modality);
  return term;
}

/** Show text with its marked parts; offsets count characters, not UTF-16 units. */
function marked(text, marks) {
  const characters = Array.from(text);
  const parts = [];
  let at = 0;
  for (const [from, to] of marks ?? []) {
    parts.push(characters.slice(at, from).join(""), h("mark", {}, characters.slice(from, to).join("")));
    at = to;
  }
  return [...parts, characters.slice(at).join("")];
}

const itemAddress = (hit) => address({ ...read(), view: "item", item: hit.id, at: (hit.kind === "video" && hit.start) || undefined });
const span = (hit) => (hit.start === null || hit.start === undefined || hit.modality === "text" ? null
  : `${clock(hit.start)}${hit.end ? `–${clock(hit.end)}` : ""}`);

function chance(hit) {
  if (hit.probability === null) {
    return h("span", { class: "chance", title: "Cosine: this space has no probabilities" }, hit.score.toFixed(2));
  }
  return h("span", { class: "chance", title: `Probability that this is a match; cosine ${hit.score.toFixed(2)}` },
    percent(hit.probability));
}

function picture(hit, soon) {
  if (!hit.thumbnail) return h("a", { class: "media none", href: itemAddress(hit), tabIndex: -1, "aria-hidden": "true" }, one(hit.kind));
  const image = h("img", { src: hit.thumbnail, alt: "", loading: soon ? "eager" : "lazy", decoding: "async",
    onerror: () => image.replaceWith(h("span", { class: "gone" }, "no picture")) });
  const frame = h("a", { class: "media", href: itemAddress(hit), tabIndex: -1, "aria-hidden": "true" }, image);
  if (hit.kind !== "video") return frame;
  const from = hit.start ? ` from ${clock(hit.start)}` : "";
  const node = h("div", { class: "media" }, frame, h("span", { class: "tag" }, span(hit) ?? "video"),
    h("button", { type: "button", class: "icon play", "aria-label": `Play ${hit.name}${from}`, onclick() {
      silence();
      const played = film(hit, { autoplay: true });
      node.replaceChildren(played);
      played.focus();
    } }, icon("play")));
  return node;
}

function face(hit, soon) {
  if (hit.kind === "audio" || (!hit.thumbnail && ["audio", "speech"].includes(hit.modality))) {
    const fallback = `/api/items/${encodeURIComponent(hit.id)}/preview`;
    return h("div", { class: "media sound" },
      waveform({ ...hit, start: hit.start ?? 0, fallback, soon }),
      hit.text && h("p", { class: "said" }, marked(hit.text, hit.marks)));
  }
  if (hit.kind === "text") return h("div", { class: "media words-of" }, h("p", {}, marked(hit.text || hit.name, hit.marks)));
  return picture(hit, soon);
}

/** Make the card of a hit; with `soon` what it shows is fetched at once, else when it comes near the screen. */
export function card(hit, { add = null, soon = false } = {}) {
  const name = hit.name || hit.uri;
  const like = () => go({ ...filtersOf(read()), view: "search", item: undefined, k: undefined, terms: [termOf(hit)] });
  const join = (weight) => () => (add ? add([termOf(hit, weight)])
    : go({ view: "search", item: undefined, terms: [...read().terms, termOf(hit, weight)] }));
  const bar = h("span", { class: "bar", "aria-hidden": "true" });
  bar.style.setProperty("--share", hit.probability ?? 0);
  return h("li", { class: `card ${hit.kind} of-${hit.modality}`, "data-id": hit.id }, face(hit, soon), bar,
    h("div", { class: "about" },
      h("span", { class: `dot ${hit.modality}`, title: capital(one(hit.modality)) }),
      h("a", { class: "name", href: itemAddress(hit), title: hit.uri }, name),
      h("span", { class: "unseen" }, `, ${one(hit.modality)}, `), chance(hit)),
    h("div", { class: "acts" },
      h("button", { type: "button", class: "link", "aria-label": `More like ${name}`, onclick: like }, icon("like"), h("span", {}, "More like this")),
      iconButton("plus", `Add ${name} to the query`, join(1)),
      iconButton("minus", `Take ${name} away from the query`, join(-1))));
}

/** Make a list of cards. */
export const cards = (hits, options, kind = "") => h("ol", { class: `cards ${kind}` }, hits.map((hit, at) => card(hit, { ...options, soon: at < SOON })));

/** Make one section of cards for each modality that has hits. */
export const sections = (groups, options, level = "h2") => Object.entries(groups)
  .filter(([, hits]) => hits.length)
  .map(([modality, hits]) => h("section", { "aria-label": capital(called(modality)) },
    h(level, {}, capital(called(modality)), " ", h("small", {}, number(hits.length))),
    cards(hits, options, modality)));
