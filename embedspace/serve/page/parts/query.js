/** The query bar: words, files and recordings, each a chip with its sign and weight once there are several. */

import { announce, fill, h, icon, iconButton, one, percent, settled } from "../dom.js";
import { catalog, call } from "../api.js";
import { kindOf } from "../state.js";
import { hear, known, labelOf, parse, remember, send } from "../terms.js";

/**
 * Make a query bar.
 *
 * `submit(terms)` is called with every change that is meant to be searched; `verb` names the button; `soon()` when
 * somebody begins to type. Returns {node, show(terms), add(terms), files(list), focus()}.
 */
export function queryBar({ submit, verb, soon = () => {} }) {
  let terms = [];
  let heardAs = []; // what a recording can be heard as
  let waiting = []; // files on their way: {name} or {name, error}
  const chips = h("ul", { class: "chips", "aria-label": "Terms of the query" });
  const words = h("input", {
    type: "search", class: "words", "aria-label": "Words to search with", autocomplete: "off", enterKeyHint: "search",
    spellcheck: false, maxLength: 2000, oninput: soon,
  });
  const picker = h("input", { type: "file", multiple: true, hidden: true, "aria-label": "Files to search with", onchange });
  const tray = h("div", { class: "tray" });
  const node = h("form", { class: "query", role: "search", onsubmit },
    chips,
    h("div", { class: "line" },
      words,
      iconButton("plus", "Add the words as a term", addWords),
      iconButton("file", "Search with a file", () => picker.click()),
      iconButton("mic", "Search with the microphone", record),
      h("button", { type: "submit", class: "primary" }, icon(verb.toLowerCase()), h("span", {}, verb))),
    tray, picker);
  catalog().then(({ query_modalities: found }) => {
    heardAs = ["speech", "audio"].filter((kind) => found.includes(kind));
    picker.accept = ["image", "audio", "video"].filter((kind) => found.includes(kind)).map((kind) => `${kind}/*`).join();
  }, () => {});

  const isPlain = () => terms.length === 1 && terms[0].text !== undefined && terms[0].weight === 1;
  const commit = (next) => submit((terms = next));

  function onsubmit(event) {
    event.preventDefault();
    const typed = parse(words.value);
    if (isPlain()) return commit(typed);
    if (typed.length) words.value = "";
    commit([...terms, ...typed]);
  }

  function addWords() {
    const typed = parse(words.value);
    if (!typed.length) return words.focus();
    terms = [...(isPlain() ? [] : terms), ...typed];
    draw({ chipsOnly: true });
    words.value = "";
    words.focus();
  }

  function onchange() {
    files([...picker.files]);
    picker.value = "";
  }

  async function files(list, options = {}) {
    if (words.value.trim() && !isPlain()) addWords();
    for (const file of list) {
      const entry = { name: file.name || "what was pasted" };
      waiting.push(entry);
      draw();
      try {
        const term = await send(file, options);
        waiting = waiting.filter((other) => other !== entry);
        commit([...terms, term]);
      } catch (error) {
        entry.error = error.message;
        announce(`${entry.name}: ${entry.error}`);
      }
      draw();
    }
  }

  async function record() {
    const { recorder } = await import("./record.js");
    recorder(tray, { done: (file) => files([file], { spoken: true }), pick: () => picker.click() });
  }

  function chipOf(term, at) {
    const { kind, file, modalities = [], names = [] } = known(term);
    const ways = file && kind === "audio" ? heardAs : modalities;
    const label = labelOf(term) || (term.ref ? "a file" : "an item");
    const change = (changes) => commit(terms.map((other, place) => (place === at ? { ...other, ...changes } : other)));
    const weigh = settled(350, (value) => value > 0 && change({ weight: Math.sign(term.weight) * value }));
    const away = term.weight < 0;
    const many = terms.length > 1 || term.weight !== 1;
    const guess = names.filter((name) => name.probability !== null).slice(0, 2);
    return h("li", { class: `chip ${away ? "away" : ""}` },
      many && h("button", {
        type: "button", class: "sign-of", "aria-label": `${label}: ${away ? "taken away" : "added"}; change`,
        title: away ? "Taken away" : "Added", onclick: () => change({ weight: -term.weight }),
      }, away ? "−" : "+"),
      preview(term) ?? (kind && kind !== "text" && h("span", { class: `dot ${kind}` })),
      h("span", { class: "label", title: guess.map((name) => `${name.name} ${percent(name.probability)}`).join(", ") }, label),
      ways.length > 1 && h("select", {
        "aria-label": `Hear ${label} as`,
        onchange: ({ target }) => hear(term, target.value).then(change, (error) => announce(error.message)),
      }, ways.map((name) => h("option", { value: name, selected: name === (term.as ?? modalities[0]) }, `as ${one(name)}`))),
      many && h("label", { class: "weight" }, h("span", { "aria-hidden": "true" }, "×"), h("input", {
        type: "number", min: 0.25, max: 10, step: 0.25, value: Math.abs(term.weight), "aria-label": `Weight of ${label}`,
        oninput: (event) => event.target.value && weigh(Number(event.target.value)),
      })),
      iconButton("close", `Remove ${label}`, () => {
        commit(terms.filter((_, place) => place !== at));
        words.focus();
      }));
  }

  function preview(term) {
    const { file, kind } = known(term);
    if (!file || kind !== "image") return null;
    const canvas = h("canvas", { width: 48, height: 48, class: "preview" });
    createImageBitmap(file).then((bitmap) => {
      const side = Math.min(bitmap.width, bitmap.height);
      const [left, top] = [(bitmap.width - side) / 2, (bitmap.height - side) / 2];
      canvas.getContext("2d").drawImage(bitmap, left, top, side, side, 0, 0, 48, 48);
    }, () => {});
    return canvas;
  }

  function draw({ chipsOnly = false } = {}) {
    const plain = isPlain() && !chipsOnly;
    if (plain) words.value = terms[0].text;
    words.placeholder = terms.length && !plain ? "Add words" : "Describe it, or drop a picture or a sound";
    const held = chips.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
    fill(chips, plain ? [] : terms.map(chipOf), waiting.map((entry) => h("li", { class: entry.error ? "chip wrong" : "chip busy" },
      h("span", { class: "label" }, entry.error ? `${entry.name}: ${entry.error}` : `Reading ${entry.name}`),
      entry.error && iconButton("close", "Dismiss", () => {
        waiting = waiting.filter((other) => other !== entry);
        draw();
      }))));
    chips.hidden = !chips.children.length;
    if (held) [...chips.querySelectorAll("[aria-label]")].find((one) => one.getAttribute("aria-label") === held)?.focus();
  }

  async function nameItems() {
    for (const term of terms.filter((other) => other.id && !labelOf(other))) {
      const item = await call(`/api/items/${encodeURIComponent(term.id)}`).catch(() => null);
      if (item) remember(term, item.name, item.kind);
    }
  }

  return {
    node,
    files,
    add: (more) => commit([...terms, ...more]),
    focus: () => words.focus(),
    show(next) {
      const wasPlain = isPlain();
      const typed = words.value;
      terms = next;
      draw();
      if (!isPlain() && wasPlain) words.value = "";
      if (!terms.length && document.activeElement !== words) words.value = "";
      if (!terms.length && document.activeElement === words) words.value = typed;
      if (terms.some((term) => term.id && !labelOf(term))) nameItems().then(() => draw());
    },
  };
}

/** Return a query as one line: "dog + rain − grass". */
export const inWords = (terms) => terms.map((term, at) => {
  const sign = term.weight < 0 ? "− " : at ? "+ " : "";
  return `${sign}${labelOf(term) || (kindOf(term) === "ref" ? "a file" : "an item")}`;
}).join(" ");

