/** A surface to paint on with a mouse, a finger, a pen or the keyboard; what is painted can be undone, erased and read. */

import { announce, fill, h, iconButton } from "../dom.js";

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Make a canvas of so many pixels. */
export const canvasOf = (width, height, given = {}) => h("canvas", { width, height, ...given });

/** Return a canvas as a PNG. */
export const png = (canvas) => new Promise((resolve) => canvas.toBlob(resolve, "image/png"));

/**
 * Make a surface of `width` by `height` pixels over a ground, which `base` holds. Paint is of the colour `mark`; an eraser
 * takes it away, or is of the colour `rub`. `changed()` is called when a stroke has ended.
 *
 * Returns {node, base, ink, use(mode), undo(), clear(), stamp(canvas), brush(pixels), strokes, box(corners)}; a mode is "paint", "erase",
 * "box" (one rectangle) or null, for which the surface only shows.
 */
export function surface({ width, height, label, mark, rub = null, changed = () => {} }) {
  const base = canvasOf(width, height, { class: "ground" });
  const ink = canvasOf(width, height, { class: "ink", role: "application", "aria-label": label });
  const nib = h("div", { class: "nib", "aria-hidden": "true" });
  const node = h("div", { class: "surface" }, base, ink, nib);
  node.style.setProperty("--ratio", width / height);
  const drawn = ink.getContext("2d");
  let strokes = [];
  let [mode, size, stroke, down] = [null, Math.max(width, height) / 12, null, false];
  let at = [width / 2, height / 2]; // where the keyboard's nib is

  const place = ({ clientX, clientY }) => {
    const box = ink.getBoundingClientRect();
    return [((clientX - box.left) / box.width) * width, ((clientY - box.top) / box.height) * height];
  };

  function put(given, from = 0) {
    const { points } = given;
    drawn.globalCompositeOperation = given.mode === "erase" && !rub ? "destination-out" : "source-over";
    drawn.strokeStyle = drawn.fillStyle = given.mode === "erase" && rub ? rub : mark;
    if (given.stamp) return drawn.drawImage(given.stamp, 0, 0);
    if (given.mode === "box") {
      const [left, top, right, bottom] = corners(points);
      return drawn.fillRect(left, top, right - left, bottom - top);
    }
    Object.assign(drawn, { lineWidth: given.size, lineCap: "round", lineJoin: "round" });
    drawn.beginPath();
    drawn.moveTo(...points[Math.max(0, from - 1)]);
    for (const point of points.slice(from)) drawn.lineTo(...point);
    drawn.stroke();
  }

  function redraw() {
    drawn.clearRect(0, 0, width, height);
    for (const one of strokes) put(one);
  }

  /** Return left, top, right and bottom of a box in whole pixels of the surface. */
  function corners([first, last]) {
    const between = (value, most) => Math.min(most, Math.max(0, Math.round(value)));
    const [xs, ys] = [0, 1].map((axis) => [first[axis], last[axis]].sort((a, b) => a - b));
    return [between(xs[0], width), between(ys[0], height), between(xs[1], width), between(ys[1], height)];
  }

  function begin(point) {
    stroke = { mode, size, points: [point, point] };
    if (mode === "box") strokes = [];
    strokes.push(stroke);
    put(stroke);
  }

  function move(points) {
    if (mode === "box") {
      stroke.points[1] = points.at(-1);
      return redraw();
    }
    const from = stroke.points.length;
    stroke.points.push(...points);
    put(stroke, from);
  }

  function end() {
    if (!stroke) return;
    if (stroke.mode === "box") {
      const [left, top, right, bottom] = corners(stroke.points);
      if (left === right || top === bottom) strokes = [];
      redraw();
    }
    stroke = null;
    changed();
  }

  function showNib([x, y]) {
    Object.assign(nib.style, { left: `${(100 * x) / width}%`, top: `${(100 * y) / height}%`, width: `${(100 * (mode === "box" ? width / 60 : size)) / width}%` });
  }

  ink.addEventListener("pointerdown", (event) => {
    if (!mode || event.button) return;
    event.preventDefault();
    ink.focus({ preventScroll: true });
    ink.setPointerCapture(event.pointerId);
    begin((at = place(event)));
  });
  ink.addEventListener("pointermove", (event) => {
    if (!mode) return;
    showNib(place(event));
    if (!stroke || down) return;
    const all = event.getCoalescedEvents?.() ?? [];
    move((all.length ? all : [event]).map(place));
  });
  for (const name of ["pointerup", "pointercancel"]) ink.addEventListener(name, () => !down && end());
  ink.addEventListener("keydown", (event) => {
    if (!mode) return;
    const arrow = ARROWS[event.key];
    if (arrow) {
      const step = event.shiftKey ? size / 8 : size / 2;
      at = [0, 1].map((axis) => Math.min([width, height][axis], Math.max(0, at[axis] + step * arrow[axis])));
      showNib(at);
      if (down) move([at]);
    } else if (event.key === " " || event.key === "Enter") {
      if (down) end();
      else begin(at);
      down = !down;
      announce(down ? "Painting; the arrows move, space ends it" : "Ended");
    } else if (event.key === "Backspace" || (event.key === "z" && (event.ctrlKey || event.metaKey))) undo();
    else return;
    event.preventDefault();
  });
  ink.addEventListener("focus", () => mode && showNib(at));
  ink.addEventListener("blur", () => {
    if (down) end();
    down = false;
  });

  function undo() {
    strokes.pop();
    redraw();
    changed();
  }

  return {
    node, base, ink, undo,
    get strokes() {
      return strokes;
    },
    use(next) {
      if ((next === "box") !== (mode === "box")) strokes = [];
      mode = next;
      node.classList.toggle("live", next !== null);
      ink.tabIndex = next ? 0 : -1;
      redraw();
      if (next) showNib(at);
    },
    clear() {
      strokes = [];
      redraw();
      changed();
    },
    /** Put a picture of paint on it, of its own size. */
    stamp(picture) {
      strokes.push({ mode: "stamp", stamp: picture });
      redraw();
      changed();
    },
    brush(pixels) {
      size = pixels;
      showNib(at);
    },
    /** Return the corners of the box; given some, it lies there. */
    box(given) {
      if (given) {
        strokes = [{ mode: "box", size, points: [given.slice(0, 2), given.slice(2)] }];
        redraw();
        changed();
      }
      return strokes.length && strokes[0].mode === "box" ? corners(strokes[0].points) : null;
    },
  };
}

/** Make the tools of a surface: brush, eraser, undo, clear. `size` is the brush's width in shares of the longer side. */
export function tools(paper, { size, also = [] }) {
  const longer = Math.max(paper.base.width, paper.base.height);
  const eraser = h("button", {
    type: "button", class: "quiet", "aria-pressed": "false",
    onclick() {
      const erase = eraser.getAttribute("aria-pressed") === "false";
      eraser.setAttribute("aria-pressed", String(erase));
      paper.use(erase ? "erase" : "paint");
    },
  }, "Erase");
  paper.brush(size * longer);
  return h("div", { class: "tools", role: "group", "aria-label": "Brush" },
    h("label", {}, h("span", {}, "Brush"), h("input", {
      type: "range", min: 0.01, max: 0.3, step: 0.01, value: size, oninput: ({ target }) => paper.brush(Number(target.value) * longer),
    })),
    eraser,
    h("button", { type: "button", class: "quiet", onclick: paper.undo }, "Undo"),
    h("button", { type: "button", class: "quiet", onclick: paper.clear }, "Clear"), also);
}

/** Make a panel with a heading and a way to leave it. Returns {node, body, say(text)}: `say` shows one line of error. */
export function panelOf(title, { leave, leaving }) {
  const note = h("p", { class: "note", role: "alert", hidden: true });
  const body = h("div", { class: "within" });
  const node = h("section", { class: "panel", "aria-label": title },
    h("div", { class: "line" }, h("h2", { class: "grow" }, title), iconButton("close", leaving, leave)), body, note);
  return {
    node, body,
    say(text) {
      note.hidden = !text;
      fill(note, text);
    },
  };
}

/** Make a button that chooses a file, with its hidden field; `taken(file)` is called with it. */
export function chooser(text, accept, taken, given = {}) {
  const field = h("input", {
    type: "file", hidden: true, accept, "aria-label": text,
    onchange() {
      const [file] = field.files;
      field.value = "";
      if (file) taken(file);
    },
  });
  return [h("button", { type: "button", class: "quiet", onclick: () => field.click(), ...given }, text), field];
}
