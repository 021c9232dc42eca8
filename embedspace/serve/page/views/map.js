/** The map of the space: a canvas of points that can be moved and enlarged, and the same as a list. */

import { call } from "../api.js";
import { called, capital, fill, h, iconButton, number, settled } from "../dom.js";
import { address, go, read } from "../state.js";

const LISTED = 100;

/** Make the view. */
export function view() {
  let points = [];
  let hidden = new Set();
  let hovered = null;
  let later = 0;
  let [scale, left, top] = [1, 0, 0]; // of the enlarged map, in widths of the canvas
  const canvas = h("canvas", { class: "space", "aria-hidden": "true" });
  const tip = h("div", { class: "tip", hidden: true });
  const keys = h("div", { class: "choices", role: "group", "aria-label": "Shown on the map" });
  const about = h("p", { class: "hint" }, "Laying out the map. The first time this takes a moment.");
  const find = h("input", { type: "search", placeholder: "Find a name", "aria-label": "Find a name on the map",
    oninput: settled(200, () => go({ find: find.value || undefined }, { replace: true })) });
  const list = h("ol", { class: "points" });
  const count = h("p", { class: "hint", role: "status" });
  const node = h("div", { class: "map" }, h("h1", {}, "Map of the space"), about,
    h("div", { class: "line" }, keys, h("span", { class: "grow" }),
      iconButton("plus", "Enlarge", () => zoom(1.6)), iconButton("minus", "Make smaller", () => zoom(1 / 1.6)),
      h("button", { type: "button", class: "quiet", onclick: () => (([scale, left, top] = [1, 0, 0]), draw()) }, "Whole map")),
    h("div", { class: "sheet" }, h("div", { class: "board" }, canvas, tip),
      h("section", { class: "index", "aria-label": "Points of the map as a list" }, find, count, list)));

  const where = (point) => [((point.x - left) * scale) * canvas.width, ((point.y - top) * scale) * canvas.height];
  const shown = () => points.filter((point) => !hidden.has(point.modality));
  const matches = (point) => !find.value || point.label.toLowerCase().includes(find.value.toLowerCase());

  function draw() {
    const box = canvas.getBoundingClientRect();
    if (!box.width) return;
    const ratio = devicePixelRatio || 1;
    [canvas.width, canvas.height] = [box.width * ratio, box.height * ratio];
    const context = canvas.getContext("2d");
    const style = getComputedStyle(node);
    const colours = Object.fromEntries([...new Set(points.map((point) => point.modality))].map((kind) =>
      [kind, style.getPropertyValue(`--${kind}`) || style.getPropertyValue("--muted")]));
    const size = ratio * Math.min(7, 2.6 * Math.sqrt(scale) * (points.length < 400 ? 1.5 : 1));
    for (const point of shown()) {
      const [x, y] = where(point);
      const found = matches(point);
      context.globalAlpha = found ? 0.82 : 0.12;
      context.fillStyle = colours[point.modality];
      context.beginPath();
      context.arc(x, y, point === hovered ? 1.8 * size : size, 0, 7);
      context.fill();
    }
    context.globalAlpha = 1;
    const few = shown().filter((point) => matches(point) && where(point).every((at, axis) => at > 0 && at < [canvas.width, canvas.height][axis]));
    if (few.length > 40) return;
    context.font = `${12 * ratio}px ${style.fontFamily}`;
    context.fillStyle = style.color;
    const taken = [];
    for (const point of few) {
      const [x, y] = where(point);
      const text = point.label.length > 28 ? `${point.label.slice(0, 27)}…` : point.label;
      const area = [x + 2 * size, y - 9 * ratio, x + 2 * size + context.measureText(text).width, y + 9 * ratio];
      if (taken.some((other) => area[0] < other[2] && other[0] < area[2] && area[1] < other[3] && other[1] < area[3])) continue;
      taken.push(area);
      context.fillText(text, area[0], y + 4 * ratio);
    }
  }

  function drawList() {
    const found = shown().filter(matches);
    fill(list, found.slice(0, LISTED).map((point) => h("li", {}, h("span", { class: `dot ${point.modality}` }),
      h("a", { href: address({ view: "item", item: point.id }), onfocus: () => ((hovered = point), draw()) }, point.label))));
    count.textContent = found.length > LISTED ? `The first ${LISTED} of ${number(found.length)}; find a name to see others.`
      : `${number(found.length)} ${found.length === 1 ? "item" : "items"}`;
  }

  function drawKeys() {
    const counts = new Map();
    for (const { modality } of points) counts.set(modality, (counts.get(modality) ?? 0) + 1);
    fill(keys, [...counts].map(([kind, many]) => h("button", {
      type: "button", class: "choice", "aria-pressed": String(!hidden.has(kind)),
      onclick({ currentTarget }) {
        if (!hidden.delete(kind)) hidden.add(kind);
        currentTarget.setAttribute("aria-pressed", String(!hidden.has(kind)));
        draw();
        drawList();
      },
    }, h("span", { class: `dot ${kind}` }), `${capital(called(kind))} ${number(many)}`)));
  }

  function zoom(factor, x = 0.5, y = 0.5) {
    const next = Math.min(60, Math.max(1, scale * factor));
    [left, top] = [left + x / scale - x / next, top + y / scale - y / next];
    scale = next;
    const most = 1 - 1 / scale;
    [left, top] = [left, top].map((at) => Math.min(most, Math.max(0, at)));
    draw();
  }

  const within = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  function nearest(event) {
    const [x, y] = within(event);
    const reach = (event.pointerType === "touch" ? 24 : 12) * (devicePixelRatio || 1);
    let [best, least] = [null, reach];
    for (const point of shown()) {
      const [px, py] = where(point);
      const distance = Math.hypot(px - x * canvas.width, py - y * canvas.height);
      if (distance < least) [best, least] = [point, distance];
    }
    return best;
  }

  const fingers = new Map();
  let moved = 0;
  let apart = 0;
  canvas.onpointerdown = (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, within(event));
    [moved, apart] = [0, 0];
  };
  canvas.onpointermove = (event) => {
    const at = within(event);
    const before = fingers.get(event.pointerId);
    if (before) {
      fingers.set(event.pointerId, at);
      moved += Math.hypot(at[0] - before[0], at[1] - before[1]);
      if (fingers.size > 1) {
        const [a, b] = [...fingers.values()];
        const now = Math.hypot(a[0] - b[0], a[1] - b[1]);
        if (apart) zoom(now / apart, (a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
        apart = now;
      } else {
        [left, top] = [left - (at[0] - before[0]) / scale, top - (at[1] - before[1]) / scale];
        zoom(1);
      }
      return;
    }
    const point = nearest(event);
    if (point === hovered) return;
    hovered = point;
    tip.hidden = !point;
    canvas.classList.toggle("over", Boolean(point));
    if (point) {
      tip.textContent = point.label;
      tip.style.left = `${Math.min(0.8, at[0]) * 100}%`;
      tip.style.top = `${at[1] * 100}%`;
    }
    draw();
  };
  canvas.onpointerup = canvas.onpointercancel = (event) => {
    fingers.delete(event.pointerId);
    if (event.type === "pointercancel" || moved > 0.01) return;
    const point = nearest(event);
    if (point) go({ view: "item", item: point.id, find: undefined });
  };
  canvas.onpointerleave = () => ((hovered = null), (tip.hidden = true), draw());
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 300), ...within(event));
  }, { passive: false });
  new ResizeObserver(draw).observe(canvas);
  addEventListener("painted", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

  return {
    node,
    async show(state) {
      if (document.activeElement !== find) find.value = state.find ?? "";
      const told = await call("/api/map");
      clearTimeout(later);
      if (told.state === "computing") later = setTimeout(() => read().view === "map" && go({}, { replace: true }), 1500);
      else if (told.state === "failed") about.textContent = "The map could not be computed; the server's log says why.";
      if (told.state !== "ready") return;
      const edge = (axis, pick) => told.points.reduce((found, point) => pick(found, point[axis]), pick === Math.min ? Infinity : -Infinity);
      const fit = (axis) => {
        const [low, high] = [edge(axis, Math.min), edge(axis, Math.max)];
        return (value) => 0.04 + (0.92 * (value - low)) / (high - low || 1);
      };
      const [across, down] = [fit("x"), fit("y")];
      points = told.points.map((point) => ({ ...point, x: across(point.x), y: down(point.y) }));
      about.textContent = !points.length ? "There is nothing to show yet." : (told.of > points.length
        ? `${number(points.length)} of ${number(told.of)} items` : `All ${number(points.length)} items`)
        + `, by ${told.method}: what is close here is mostly close in the space.`;
      drawKeys();
      drawList();
      draw();
      if (read().view !== "map") hovered = null;
    },
  };
}
