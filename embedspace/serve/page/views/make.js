/** Making: from anything that can be asked to a picture, a sound, words or speech. */

import { call, catalog, listen } from "../api.js";
import { announce, capital, fill, h, number, one } from "../dom.js";
import { inWords, queryBar } from "../parts/query.js";
import { go, keyOf, read } from "../state.js";
import { waveform, silence } from "../parts/player.js";
import { asked, isExpired, revive, send } from "../terms.js";

const ORDER = ["image", "audio", "speech", "text"];
const COMMON = [ // of all targets: name, label, least, most, step, default, what it does
  ["count", "How many", 1, 16, 1, 4, "results to keep"],
  ["seed", "Seed", 0, 2147483647, 1, null, "the same seed makes the same again; left empty, a new one"],
];
const FURTHER = ["family", "steps", "start"]; // few want them: they are folded
const PANELS = { // options that are of files have panels: what opens one, the options in it, and what makes it
  init: { label: (kind) => `Edit a ${one(kind)}`, drop: (kind) => `Drop it here to edit the ${one(kind)}`, keys: ["init", "mask", "strength"], make: async () => (await import("../parts/edit.js")).editor },
  map: { label: () => "Draw where it goes", drop: () => "Drop it here as an outline", keys: ["map"], make: async () => (await import("../parts/outline.js")).outline },
};
const IN_PANELS = Object.values(PANELS).flatMap(({ keys }) => keys);

/** Return an option of a target, as the server describes it, in the form of those above; values to choose from come last. */
const described = ({ key, type, least, most, help, choices }) => [key, capital(key.replaceAll("_", " ")), least, most, type === "int" ? 1 : type === "float" ? "any" : null, null, help, choices];

/** Make the view. */
export function view() {
  let stop = null;
  let current = null;
  const bar = queryBar({ verb: "Make", submit: start });
  const target = h("div", { class: "choices", role: "group", "aria-label": "What to make" });
  const options = h("div", { class: "options" });
  const openers = h("div", { class: "line openers" });
  const panels = h("div", { class: "panels" });
  const inUse = {}; // key of PANELS -> the panel that is open
  const state = h("div", { class: "progress" });
  const results = h("ol", { class: "made" });
  const node = h("div", { class: "make" }, h("h1", {}, "Make"),
    h("p", { class: "hint" }, "From words, a picture, a sound or speech, alone or together. What is made is small and simple: it knows everyday things."),
    bar.node, target, options, openers, panels, state, results);

  const wanted = () => read().to;
  let things = {}; // what can be made, by name
  const taken = () => [...COMMON, ...(things[wanted()]?.options ?? [])
    .filter(({ key, file, choices }) => !file && !IN_PANELS.includes(key) && !(FURTHER.includes(key) && choices.length === 1)).map(described)];
  const isOf = (name) => things[wanted()]?.options.some(({ key, file }) => key === name && file);

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
    const [usual, further] = [false, true].map((which) => taken().filter(([name]) => FURTHER.includes(name) === which).map((option) => field(option, given)));
    fill(options, usual, further.length > 0 && h("details", { open: FURTHER.some((name) => given[keyOf(name)] !== undefined) },
      h("summary", {}, "More"), h("div", { class: "options" }, further)));
    for (const name of Object.keys(inUse)) if (inUse[name].of !== to) shut(name);
    drawOpeners();
  }

  function field([name, label, min, max, step, standard, about, choices = []], given) {
    const value = given[keyOf(name)] ?? standard ?? "";
    const common = { title: about, "aria-description": about };
    const set = (chosen) => go({ [keyOf(name)]: chosen === "" ? undefined : chosen }, { replace: true, quiet: true });
    return h("label", { title: about }, h("span", {}, label), choices.length
      ? h("select", { ...common, onchange: ({ target: chosen }) => set(chosen.value) }, ["", ...choices].map((choice) =>
        h("option", { value: choice, selected: choice === value }, choice || "its own")))
      : h("input", {
        ...common, type: step === null ? "text" : "number", min, max, step, value, placeholder: name === "seed" ? "any" : "its own",
        onchange: ({ target: typed }) => typed.reportValidity() && set(step === null || typed.value === "" ? typed.value : Number(typed.value)),
      }));
  }

  function drawOpeners() {
    fill(openers, Object.keys(PANELS).filter((name) => isOf(name) && !inUse[name]).map((name) =>
      h("button", { type: "button", class: "quiet", "data-opens": name, onclick: () => openPanel(name) }, PANELS[name].label(things[wanted()].content))));
    openers.hidden = !openers.children.length;
  }

  /** Open a panel, if it is not; a file that is given lies in it then. */
  async function openPanel(name, file = null) {
    if (!inUse[name]) {
      const to = wanted();
      const make = await PANELS[name].make();
      const found = Object.fromEntries(things[to].options.map((option) => [option.key, option]));
      inUse[name] ??= Object.assign(make({ content: things[to].content, options: found, leave: () => leavePanel(name) }), { of: to });
      panels.append(inUse[name].node);
      drawOpeners();
      if (!file) inUse[name].node.querySelector(".within :is(button, canvas)")?.focus();
    }
    if (file) await inUse[name].take(file);
    inUse[name].node.scrollIntoView({ block: "nearest" });
  }

  function shut(name) {
    inUse[name].node.remove();
    delete inUse[name];
  }

  function leavePanel(name) {
    shut(name);
    drawOpeners();
    openers.querySelector(`[data-opens=${name}]`)?.focus();
  }

  /** Take files: those that were dropped or pasted where something is edited go there, others become terms. */
  function files(list, { zone = 0, at = null } = {}) {
    const open = Object.keys(inUse);
    const into = ["", ...Object.keys(PANELS).filter(isOf)][zone] || open.find((name) => inUse[name].node.contains(at))
      || (at && open.find((name) => !inUse[name].isFilled));
    if (into) return openPanel(into, list[0]);
    return bar.files(list);
  }

  async function start(terms, { again = false } = {}) {
    const refuse = (message) => fill(state, h("p", { class: "note", role: "alert" }, capital(message)));
    if (!terms.length && inUse.init?.isFilled) { // then it is made from what is edited
      try {
        const file = await inUse.init.file();
        terms = file ? [await send(file)] : [];
      } catch (error) {
        return refuse(error.message);
      }
    }
    if (!terms.length) {
      bar.show(terms);
      return Object.keys(inUse).length ? refuse("Say in words, or with a file, what is to be made.") : undefined;
    }
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
      for (const panel of Object.values(inUse)) Object.assign(body, await panel.options());
      const { job, events } = await call("/api/generate", { method: "POST", body });
      go({ job }, { replace: true, quiet: true });
      follow(job, events);
    } catch (error) {
      const revived = isExpired(error, terms) && (await revive(terms).catch(() => null));
      if (revived) return start(revived);
      if (error.status === 404 && IN_PANELS.includes(error.param) && !again) {
        for (const panel of Object.values(inUse)) panel.forget();
        return start(terms, { again: true });
      }
      refuse(error.message);
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
      made.url && isOf("init") && h("button", { type: "button", class: "link", "aria-label": `Edit ${name}`, onclick: () => edit(made.url, name) }, "Edit"),
      made.url && h("a", { class: "link", href: made.url, download: "", "aria-label": `Download ${name}` }, "Download")),
      made.neighbours.length > 0 && h("div", { class: "beside" }, h("h2", {}, "Nearest training items"),
        h("ul", {}, made.neighbours.map((near) => h("li", { title: near.uri }, near.thumbnail && h("img", { src: near.thumbnail, alt: "" }), near.label)))));
  }

  async function edit(url, name) {
    const answer = await fetch(url).catch(() => null);
    if (!answer?.ok) return fill(state, h("p", { class: "note", role: "alert" }, "The server no longer has this. Make it again."));
    const made = await answer.blob();
    await openPanel("init", new File([made], name, { type: made.type }));
  }

  return {
    node,
    files,
    drops: () => ["Drop it here to make something from it", ...Object.keys(PANELS).filter(isOf).map((name) => PANELS[name].drop(things[wanted()].content))],
    hide: silence,
    title: (given) => inWords(given.terms),
    async show(given) {
      bar.show(given.terms);
      await drawForm();
      if (given.job && given.job !== current && !results.children.length) follow(given.job, `/api/jobs/${given.job}/events`);
    },
  };
}
