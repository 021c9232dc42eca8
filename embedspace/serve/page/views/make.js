/** Making: from anything that can be asked to a picture, a sound, words or speech. */

import { call, catalog, listen } from "../api.js";
import { announce, capital, fill, h, number, one } from "../dom.js";
import { inWords, queryBar } from "../parts/query.js";
import { go, keyOf, read } from "../state.js";
import { waveform, silence } from "../parts/player.js";
import { asked, isExpired, revive } from "../terms.js";

const ORDER = ["image", "audio", "speech", "text"];
const COMMON = [ // of all targets: name, label, least, most, step, default, what it does
  ["count", "How many", 1, 16, 1, 4, "results to keep"],
  ["seed", "Seed", 0, 2147483647, 1, null, "the same seed makes the same again; left empty, a new one"],
];
const HIDDEN = ["family", "size", "steps", "strength"]; // for programs, as are options of files

/** Return an option of a target, as the server describes it, in the form of those above. */
const described = ({ key, type, least, most, help }) => [key, capital(key.replaceAll("_", " ")), least, most, type === "int" ? 1 : type === "float" ? "any" : null, null, help];

/** Make the view. */
export function view() {
  let stop = null;
  let current = null;
  const bar = queryBar({ verb: "Make", submit: start });
  const target = h("div", { class: "choices", role: "group", "aria-label": "What to make" });
  const options = h("div", { class: "options" });
  const state = h("div", { class: "progress" });
  const results = h("ol", { class: "made" });
  const node = h("div", { class: "make" }, h("h1", {}, "Make"),
    h("p", { class: "hint" }, "From words, a picture, a sound or speech, alone or together. What is made is small and simple: it knows everyday things."),
    bar.node, target, options, state, results);

  const wanted = () => read().to;
  let things = {}; // what can be made, by name
  const taken = () => [...COMMON, ...(things[wanted()]?.options ?? []).filter((option) => !option.file && !HIDDEN.includes(option.key)).map(described)];

  async function drawForm() {
    things = Object.fromEntries((await catalog()).targets.map((target) => [target.name, target]));
    const place = (name) => (ORDER.includes(name) ? ORDER.indexOf(name) : ORDER.length);
    const generates = Object.keys(things).sort((a, b) => place(a) - place(b));
    const to = generates.includes(wanted()) ? wanted() : generates[0];
    if (!to) return fill(target, h("p", { class: "note" }, "This space has no generators."));
    if (to !== wanted()) go({ to }, { replace: true, quiet: true });
    const given = read();
    const choose = (kind) => {
      go({ to: kind });
      [...target.children].find((choice) => choice.dataset.kind === kind)?.focus();
    };
    fill(target, generates.map((kind) => h("button", {
      type: "button", class: "choice", "data-kind": kind, "aria-pressed": String(kind === to), onclick: () => choose(kind),
    }, capital(kind === "image" || kind === "audio" ? `a ${one(kind)}` : kind === "text" ? "words" : one(kind)))));
    fill(options, taken().map(([name, label, min, max, step, standard, about]) =>
      h("label", { title: about }, h("span", {}, label), h("input", {
        type: step === null ? "text" : "number", min, max, step, value: given[keyOf(name)] ?? standard ?? "", placeholder: name === "seed" ? "any" : "its own", "aria-description": about,
        onchange: ({ target: field }) => field.reportValidity() && go({ [keyOf(name)]: field.value === "" ? undefined : step === null ? field.value : Number(field.value) }, { replace: true, quiet: true }),
      }))));
  }

  async function start(terms) {
    if (!terms.length) return bar.show(terms);
    go({ terms, job: undefined }, { quiet: true });
    bar.show(terms);
    if (![...options.querySelectorAll("input")].every((field) => field.reportValidity())) return;
    await leave();
    const given = read();
    const body = { terms: asked(terms), to: given.to, seed: given.seed ?? Math.floor(Math.random() * 2 ** 31) };
    for (const [name, , , , , standard] of taken()) {
      const value = given[keyOf(name)] ?? standard;
      if (value !== null && value !== undefined) body[name] = value;
    }
    fill(results);
    progress("Waiting", null);
    try {
      const { job, events } = await call("/api/generate", { method: "POST", body });
      go({ job }, { replace: true, quiet: true });
      follow(job, events);
    } catch (error) {
      const again = isExpired(error, terms) && (await revive(terms).catch(() => null));
      if (again) return start(again);
      fill(state, h("p", { class: "note", role: "alert" }, capital(error.message)));
    }
  }

  function progress(stage, share) {
    const bar = h("progress", { max: 1, "aria-label": "Progress" });
    if (share !== null) bar.value = share;
    fill(state, bar, h("span", {}, stage), current && h("button", { type: "button", class: "quiet", onclick: cancel }, "Cancel"));
  }

  async function cancel() {
    await leave(true);
    fill(state, h("p", { class: "note" }, "Cancelled."));
    go({ job: undefined }, { replace: true, quiet: true });
  }

  async function leave(end = current !== null) {
    stop?.();
    const job = current;
    [stop, current] = [null, null];
    if (job && end) await call(`/api/jobs/${job}`, { method: "DELETE" }).catch(() => {});
  }

  function follow(job, events) {
    current = job;
    const finish = (text, role = "status") => {
      stop?.();
      [stop, current] = [null, null];
      fill(state, text && h("p", { class: "note", role }, text));
    };
    stop = listen(events, {
      progress: ({ done, total, stage }) => progress(`${capital(stage || "making")} ${total ? `${number(done)} of ${number(total)}` : ""}`, total ? done / total : null),
      result: (made) => results.querySelector(`[data-index="${made.index}"]`) || results.append(card(made)),
      done: () => {
        finish("");
        announce(`${results.children.length} made`);
      },
      error: ({ message }) => finish(capital(message), "alert"),
    }, () => finish("The server no longer has this. Make it again."));
    progress("Waiting", null);
  }

  function card(made) {
    const { to, terms } = read();
    const name = `${inWords(terms) || one(to)}, ${number(made.index + 1)}`;
    const face = (things[to]?.content ?? to) === "image" ? h("img", { src: made.url, alt: name })
      : made.url ? waveform({ name, media: made.url, fallback: null }) : null;
    return h("li", { class: `card made-${to}`, "data-index": made.index },
      face && h("div", { class: "media" }, face), made.text && h("p", { class: "told" }, made.text),
      h("div", { class: "about" }, h("span", { class: "facts" }, made.seed === null || made.seed === undefined ? "" : `Seed ${made.seed}`,
        made.copy && h("span", { class: "flag", title: "It is nearly the same as a training item" }, "copy"),
        made.outside && h("span", { class: "flag", title: "The source is far from everything that the generator knows" }, "outside")),
      made.url && h("a", { class: "link", href: made.url, download: "", "aria-label": `Download ${name}` }, "Download")),
      made.neighbours.length > 0 && h("div", { class: "beside" }, h("h2", {}, "Nearest training items"),
        h("ul", {}, made.neighbours.map((near) => h("li", { title: near.uri }, near.thumbnail && h("img", { src: near.thumbnail, alt: "" }), near.label)))));
  }

  return {
    node,
    files: bar.files,
    hide: silence,
    title: (given) => inWords(given.terms),
    async show(given) {
      bar.show(given.terms);
      await drawForm();
      if (given.job && given.job !== current && !results.children.length) follow(given.job, `/api/jobs/${given.job}/events`);
    },
  };
}
