/** What is edited: a picture or a sound of the user's, what of it may change, and how far it may go. */

import { announce, capital, fill, h, one } from "../dom.js";
import { canvasOf, chooser, panelOf, png, surface, tools } from "./paint.js";
import { seen, sent } from "./sent.js";

const SIDE = 2048; // of longer sides: the server makes larger pictures smaller, too
const MARK = "#c2185b";
const WAYS = { // what may change: content -> [name, label, what it means]
  image: [
    ["all", "Everything", "All of it may change."],
    ["paint", "What I paint", "Paint over what may change; the rest stays as it is."],
    ["box", "A box", "Draw a box around what may change, or type its sides in pixels; the rest stays as it is."],
    ["auto", "What differs", "What differs from what you ask for is found by itself; the rest stays as it is."],
  ],
  audio: [
    ["all", "Everything", "All of it may change."],
    ["part", "A part", "These seconds are made anew; the rest stays as it is. Drag over the sound, or type them."],
  ],
};

/** Return a picture no larger than the server takes it, and how it looks. */
async function fitted(file) {
  const bitmap = await seen(file);
  const scale = bitmap ? SIDE / Math.max(bitmap.width, bitmap.height) : 1;
  if (scale >= 1) return { blob: file, bitmap };
  const small = canvasOf(Math.round(bitmap.width * scale), Math.round(bitmap.height * scale));
  small.getContext("2d").drawImage(bitmap, 0, 0, small.width, small.height);
  return { blob: await png(small), bitmap };
}

/**
 * Make the panel.
 *
 * `content` is "image" or "audio"; `options` holds the target's options by key, as the server describes them; `leave()` is
 * called when nothing is to be edited after all. Returns {node, isFilled, file(), take(file), options(), forget()}:
 * `options` of a request, the files sent, or an Error with one line where something is missing.
 */
export function editor({ content, options, leave }) {
  const what = one(content);
  const panel = panelOf(`Edit a ${what}`, { leaving: `Edit no ${what}`, leave });
  let [init, told, way, strength, part] = [null, null, "all", null, null];
  let [paper, painted, own, address] = [null, null, null, null]; // `painted` is the mask as it was sent last

  const choose = (text, given) => chooser(text, `${content}/*`, take, given);
  const empty = () => fill(panel.body, h("p", { class: "waiting" }, choose(`Choose a ${what}`), h("span", { class: "hint" }, "or drop it on the page, or paste it.")));

  let reading = null; // while a file is on its way: a promise of its end
  const take = (file) => (reading = read(file).finally(() => (reading = null)));

  async function read(file) {
    panel.say("");
    const name = file.name || `pasted ${what}`;
    fill(panel.body, h("p", { class: "hint" }, `Reading ${name}`));
    try {
      const { blob, bitmap } = content === "image" ? await fitted(file) : { blob: file };
      const next = sent(blob, name);
      const found = await next.told();
      if (found.kind !== content) throw new Error(`this is a ${one(found.kind)}; choose a ${what}`);
      [init, told, way, strength, part, painted, paper] = [next, found, "all", null, null, null, null];
      if (address) URL.revokeObjectURL(address);
      address = URL.createObjectURL(file);
      own = content === "image" ? shown(bitmap) : await heard(file);
      draw();
      announce(`${name} can be edited`);
    } catch (error) {
      panel.say(`${name}: ${error.message}`);
      if (init) draw();
      else empty();
    }
  }

  function shown(bitmap) {
    paper = surface({
      width: told.width, height: told.height, mark: MARK, changed,
      label: "Paint what may change: the arrows move the brush, space begins and ends a stroke, backspace takes the last one back",
    });
    const ground = paper.base.getContext("2d");
    Object.assign(ground, { fillStyle: "#fff" }).fillRect(0, 0, told.width, told.height);
    if (bitmap) ground.drawImage(bitmap, 0, 0, told.width, told.height);
    return paper.node;
  }

  /** Draw a sound's outline, over which a part is chosen; where the browser cannot read it the part is typed. */
  async function heard(file) {
    const strip = canvasOf(768, 96, { class: "strip", "aria-hidden": "true" });
    const band = h("div", { class: "band", "aria-hidden": "true" });
    let from = null;
    const at = ({ clientX }) => {
      const box = strip.getBoundingClientRect();
      return Math.min(1, Math.max(0, (clientX - box.left) / box.width)) * told.duration;
    };
    const node = h("div", { class: "sounding" }, h("div", {
      class: "stripe",
      onpointerdown(event) {
        if (way !== "part" || event.button) return;
        event.currentTarget.setPointerCapture(event.pointerId);
        from = at(event);
      },
      onpointermove(event) {
        if (from === null) return;
        part = [from, at(event)].sort((a, b) => a - b).map((second) => Math.round(second * 100) / 100);
        changed();
      },
      onpointerup: () => (from = null),
      onpointercancel: () => (from = null),
    }, strip, band), h("audio", { controls: true, preload: "metadata", src: address }));
    const context = new OfflineAudioContext(1, 1, 16000);
    const samples = await file.arrayBuffer().then((bytes) => context.decodeAudioData(bytes)).then((sound) => sound.getChannelData(0), () => null);
    if (samples) outline(strip, samples.subarray(0, Math.ceil(told.duration * 16000)));
    return node;
  }

  function outline(strip, samples) {
    const bars = 192;
    const peaks = Array.from({ length: bars }, (_, bar) => samples
      .subarray(Math.floor((bar * samples.length) / bars), Math.ceil(((bar + 1) * samples.length) / bars))
      .reduce((most, value) => Math.max(most, Math.abs(value)), 0));
    const loudest = Math.max(...peaks, 1e-6);
    const ink = Object.assign(strip.getContext("2d"), { fillStyle: getComputedStyle(panel.node).getPropertyValue("--edge") });
    peaks.forEach((peak, bar) => {
      const high = Math.max(2, (90 * peak) / loudest);
      ink.fillRect(bar * 4, 48 - high / 2, 2.5, high);
    });
  }

  /** Show again what a stroke or a drag has changed. */
  function changed() {
    painted = null;
    panel.say("");
    const fields = [...panel.body.querySelectorAll(".sides input")];
    const values = way === "box" ? paper.box() : part;
    if (document.activeElement?.closest(".sides") === null || !document.activeElement) {
      fields.forEach((field, place) => (field.value = values?.[place] ?? ""));
    }
    const band = panel.body.querySelector(".band");
    if (!band) return;
    band.hidden = way !== "part" || !part;
    if (!band.hidden) Object.assign(band.style, { left: `${(100 * part[0]) / told.duration}%`, width: `${(100 * (part[1] - part[0])) / told.duration}%` });
  }

  function sides() {
    const names = content === "image" ? ["Left", "Top", "Right", "Bottom"] : ["From second", "To second"];
    const most = content === "image" ? [told.width, told.height, told.width, told.height] : [told.duration, told.duration];
    const type = () => {
      const fields = [...panel.body.querySelectorAll(".sides input")];
      if (fields.some((field) => field.value === "" || !field.reportValidity())) return;
      const values = fields.map((field) => Number(field.value));
      if (content === "image") paper.box(values);
      else part = values;
      changed();
    };
    return h("div", { class: "sides" }, names.map((name, place) => h("label", {}, h("span", {}, name),
      h("input", { type: "number", min: 0, max: most[place], step: content === "image" ? 1 : "any", oninput: type }))));
  }

  function choices() {
    const found = "mask" in options ? WAYS[content] : WAYS[content].slice(0, 1);
    return found.length > 1 && h("div", { class: "choices", role: "group", "aria-label": "What may change" }, found.map(([name, label]) => h("button", {
      type: "button", class: "choice", "aria-pressed": String(name === way), "data-way": name,
      onclick() {
        way = name;
        if (name === "part") part ??= [told.duration / 3, (2 * told.duration) / 3].map((second) => Math.round(second * 100) / 100);
        draw();
        panel.body.querySelector(`[data-way=${name}]`).focus();
      },
    }, label)));
  }

  function howFar() {
    const { least = 0, most = 1, help } = options.strength;
    const told = h("output", {}, strength ?? "its own");
    const field = h("input", {
      type: "range", min: least, max: most, step: 0.05, value: strength ?? 0.6, "aria-label": "Strength", "aria-description": help,
      "aria-valuetext": strength === null ? "its own" : String(strength),
      oninput() {
        strength = Number(field.value);
        fill(told, String(strength));
        field.setAttribute("aria-valuetext", String(strength));
        back.hidden = false;
      },
    });
    const back = h("button", {
      type: "button", class: "link", hidden: strength === null,
      onclick() {
        strength = null;
        draw();
        panel.body.querySelector("[aria-label=Strength]").focus();
      },
    }, "Leave it to the generator");
    return h("div", { class: "strength", title: capital(help) }, h("span", {}, "Strength"), h("span", { "aria-hidden": "true" }, "like it"), field,
      h("span", { "aria-hidden": "true" }, "new"), told, back);
  }

  function draw() {
    const [, , about] = WAYS[content].find(([name]) => name === way);
    paper?.use({ paint: "paint", box: "box" }[way] ?? null);
    if (paper && !["paint", "box"].includes(way)) paper.clear();
    fill(panel.body,
      h("div", { class: "stage-of" }, own),
      h("div", { class: "controls" },
        h("p", { class: "line" }, h("b", { class: "grow" }, init.name), choose("Another", { class: "link", "aria-label": `Another ${what}` })),
        choices(), h("p", { class: "hint" }, about),
        way === "paint" && tools(paper, { size: 0.08, also: chooser("From a file", "image/*", fromFile, { title: "A picture of the same size, white where it may change" }) }),
        (way === "box" || way === "part") && sides(),
        "strength" in options && howFar()));
    changed();
  }

  /** Take a mask from a file: what is white in it is painted, and can be painted further. */
  async function fromFile(file) {
    const bitmap = await seen(file);
    if (!bitmap) return panel.say(`${file.name}: cannot be read as a picture`);
    if (bitmap.width !== told.width || bitmap.height !== told.height) {
      return panel.say(`${file.name}: ${bitmap.width} x ${bitmap.height} pixels, but the picture has ${told.width} x ${told.height}`);
    }
    const read = Object.assign(canvasOf(told.width, told.height).getContext("2d"), { fillStyle: "#000" });
    read.fillRect(0, 0, told.width, told.height);
    read.drawImage(bitmap, 0, 0);
    const pixels = read.getImageData(0, 0, told.width, told.height);
    const colour = [1, 3, 5].map((place) => parseInt(MARK.slice(place, place + 2), 16));
    for (let at = 0; at < pixels.data.length; at += 4) {
      const white = pixels.data[at] + pixels.data[at + 1] + pixels.data[at + 2] >= 3 * 128;
      pixels.data.set([...colour, white ? 255 : 0], at);
    }
    read.putImageData(pixels, 0, 0);
    paper.stamp(read.canvas);
  }

  async function mask() {
    if (way === "all") return {};
    if (way === "auto") return { mask: "auto" };
    if (way === "part") return { mask: part.join("-") };
    if (!paper.strokes.length) throw new Error(way === "box" ? "draw the box that may change" : "paint what may change");
    if (way === "box") return { mask: paper.box().join() };
    if (!painted) {
      const drawn = Object.assign(canvasOf(told.width, told.height).getContext("2d"), { fillStyle: "#fff" });
      drawn.drawImage(paper.ink, 0, 0);
      drawn.globalCompositeOperation = "source-in";
      drawn.fillRect(0, 0, told.width, told.height);
      Object.assign(drawn, { globalCompositeOperation: "destination-over", fillStyle: "#000" }).fillRect(0, 0, told.width, told.height);
      painted = sent(await png(drawn.canvas), "painted.png");
    }
    return { mask: (await painted.told()).ref };
  }

  empty();
  return {
    node: panel.node,
    take,
    /** Whether there is something to edit, or will be as soon as it is read. */
    get isFilled() {
      return Boolean(init || reading);
    },
    /** Return what is edited, as a file, when it is read; null where there is nothing. */
    async file() {
      await reading;
      return init && new File([init.blob], init.name, { type: init.blob.type });
    },
    async options() {
      await reading;
      if (!init) throw new Error(`choose the ${what} that is to be edited, or close its panel`);
      return { init: (await init.told()).ref, ...(strength === null ? {} : { strength }), ...(await mask()) };
    },
    forget() {
      init?.forget();
      painted?.forget();
    },
  };
}
