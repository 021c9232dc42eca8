/** One item: the thing itself, what is known of it, and what lies near it. */

import { call } from "../api.js";
import { bytes, clock, fill, h, number, one } from "../dom.js";
import { sections } from "../parts/hits.js";
import { film, silence, waveform } from "../parts/player.js";
import { filtersOf, go, read } from "../state.js";
import { remember } from "../terms.js";

/** Make the view. */
export function view() {
  const node = h("div", { class: "item" });
  let shown = null;
  let name = "";
  const jump = (at) => {
    const media = node.querySelector("video");
    if (!media) return;
    media.currentTime = at;
    media.play().catch(() => {});
  };

  function stage(item) {
    const fallback = item.preview;
    if (item.kind === "image") {
      const image = h("img", { src: item.media, alt: item.name, onerror: () => image.src.endsWith(item.thumbnail) || (image.src = item.thumbnail) });
      return image;
    }
    if (item.kind === "video") return film({ ...item, start: read().at ?? 0 });
    if (item.kind === "audio") return waveform({ name: item.name, waveform: item.waveform, media: item.media, fallback });
    const text = item.segments.map((segment) => segment.text).filter(Boolean);
    return h("div", { class: "reading" }, (text.length ? text : [item.name]).map((part) => h("p", {}, part)));
  }

  const place = (segment) => (segment.start === null ? "whole" : segment.modality === "text"
    ? `${number(segment.start)}–${number(segment.end)}` : `${clock(segment.start)}–${clock(segment.end)}`);

  function parts(item) {
    const told = item.segments.filter((segment) => item.kind !== "text" && (segment.text || segment.start !== null));
    return told.length > 0 && h("details", { open: told.length < 6 }, h("summary", {}, `${number(told.length)} ${told.length === 1 ? "segment" : "segments"}`),
      h("ul", { class: "segments" }, told.map((segment) => h("li", {}, h("span", { class: `dot ${segment.modality}` }),
        item.kind === "video" && segment.start !== null
          ? h("button", { type: "button", class: "link", onclick: () => jump(segment.start) }, place(segment))
          : h("span", { class: "time" }, place(segment)),
        " ", one(segment.modality), segment.text && h("q", {}, segment.text)))));
  }

  function facts(item) {
    const rows = [["Place", h("code", {}, item.uri)], item.size && ["Size", bytes(item.size)],
      item.modified && ["Changed", new Date(item.modified * (typeof item.modified === "number" ? 1000 : 1) || item.modified).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" })],
      ...Object.entries(item.metadata).map(([key, value]) => [key, typeof value === "object" ? JSON.stringify(value) : String(value)])];
    return h("dl", { class: "facts" }, rows.filter(Boolean).map(([key, value]) => h("div", {}, h("dt", {}, key), h("dd", {}, value))));
  }

  return {
    node,
    title: () => name,
    hide: () => (silence(), node.querySelector("video")?.pause()),
    async show(state) {
      if (state.item === shown) return state.at !== undefined && jump(state.at);
      shown = null;
      fill(node, h("p", { class: "hint" }, "Loading"));
      const item = await call(`/api/items/${encodeURIComponent(state.item ?? "")}`);
      [shown, name] = [state.item, item.name];
      const kinds = [...new Set(item.segments.map((segment) => segment.modality))];
      const term = (weight) => ({ id: item.id, weight, as: item.kind === "text" ? null : kinds[0] });
      remember(term(1), item.name, kinds[0] ?? item.kind, kinds);
      const start = (view, terms) => () => go({ ...filtersOf(read()), view, item: undefined, terms, ...(view === "make" ? { to: undefined } : {}) });
      const button = (label, action) => h("button", { type: "button", class: "quiet", onclick: action }, label);
      fill(node,
        h("p", { class: "back" }, h("button", { type: "button", class: "link", onclick: () => history.back() }, "← Back")),
        h("div", { class: "sheet" },
          h("div", { class: `stage ${item.kind}` }, stage(item)),
          h("div", { class: "side" }, h("p", { class: "kind" }, h("span", { class: `dot ${kinds[0]}` }), one(item.kind)),
            h("h1", {}, item.name),
            h("div", { class: "line" }, button("More like this", start("search", [term(1)])),
              button("Add to the query", start("search", [...state.terms, term(1)])),
              button("Take away", start("search", [...state.terms, term(-1)])),
              button("Make from it", start("make", [term(1)])),
              h("a", { class: "button quiet", href: item.media, download: item.name }, "Download")),
            facts(item), parts(item))),
        h("div", { class: "near" }, h("h2", {}, "Near it"), sections(item.neighbours, {}, "h3")));
      if (!Object.values(item.neighbours).flat().length) node.querySelector(".near").remove();
    },
  };
}

