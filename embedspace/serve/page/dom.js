/** Elements, icons and the words for numbers: what every view is written with. */

/**
 * Make an element. `onclick` and the like are listeners, `class` and `aria-…` attributes, the rest properties where there
 * are such. Children are nodes or text; null and false are left out.
 */
export function h(tag, given = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key in node && !["list", "form", "width", "height"].includes(key)) node[key] = value;
    else node.setAttribute(key === "className" ? "class" : key, value === true ? "" : value);
  }
  node.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const SVG = "http://www.w3.org/2000/svg";
const PATHS = {
  file: "M21 11.5 12.5 20a5 5 0 0 1-7-7L14 4.5a3.3 3.3 0 0 1 4.7 4.7L10.2 17.7a1.7 1.7 0 0 1-2.4-2.4L15.5 7.5",
  mic: "M12 3a3 3 0 0 1 3 3v5a3 3 0 0 1-6 0V6a3 3 0 0 1 3-3ZM5.5 11a6.5 6.5 0 0 0 13 0M12 17.5V21",
  stop: "M7 7h10v10H7Z",
  play: "M8 5.5v13l10.5-6.5Z",
  pause: "M8 5.5v13M16 5.5v13",
  close: "M6 6l12 12M18 6 6 18",
  plus: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  like: "M4 9c2.7-3 5.3-3 8 0s5.3 3 8 0M4 15.5c2.7-3 5.3-3 8 0s5.3 3 8 0",
  search: "M11 4a7 7 0 1 1 0 14 7 7 0 0 1 0-14ZM16 16l4.5 4.5",
  make: "M12 4l1.8 5.2L19 11l-5.2 1.8L12 18l-1.8-5.2L5 11l5.2-1.8ZM18.5 16.5v4M16.5 18.5h4",
  light: "M12 8a4 4 0 1 1 0 8 4 4 0 0 1 0-8ZM12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.3 5.3l1.4 1.4M17.3 17.3l1.4 1.4M5.3 18.7l1.4-1.4M17.3 6.7l1.4-1.4",
  dark: "M19.5 14.5A8 8 0 0 1 9.5 4.5a8 8 0 1 0 10 10Z",
  system: "M3.5 5h17v11h-17ZM8.5 20h7M12 16v4",
};

/** Draw one of the icons; it is decoration, so what it stands on has a label of its own. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "sign");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

/** Make a button with an icon, named for those who don't see it. */
export const iconButton = (name, label, onclick, extra = {}) =>
  h("button", { type: "button", class: "icon", title: label, "aria-label": label, onclick, ...extra }, icon(name));

/** Fill a node anew. */
export function fill(node, ...children) {
  node.replaceChildren(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Say something to a screen reader, and to nobody else. */
export function announce(text) {
  document.getElementById("live").textContent = text;
}

const NAMES = {
  image: ["picture", "pictures"], audio: ["sound", "sounds"], speech: ["speech", "speech"], text: ["text", "texts"],
  video: ["video", "videos"],
};

/** Return what people call a modality: "pictures", or "3 pictures" with a count. */
export function called(modality, count = null) {
  const [one, many] = NAMES[modality] ?? [modality, modality];
  return count === null ? many : `${number(count)} ${count === 1 ? one : many}`;
}

/** Return one of a kind: "picture". */
export const one = (modality) => NAMES[modality]?.[0] ?? modality;
export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
export const number = (value) => value.toLocaleString("en");
export const percent = (share) => (share < 0.01 ? "< 1%" : share > 0.99 ? "> 99%" : `${Math.round(share * 100)}%`);
/** Return seconds as people write them: 1:07, 1:02:03. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (value) => String(value).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

/** Return bytes as 3.2 MB. */
export function bytes(count) {
  const step = count < 1e3 ? 0 : count < 1e6 ? 1 : count < 1e9 ? 2 : 3;
  return `${(count / 1000 ** step).toFixed(step && count / 1000 ** step < 10 ? 1 : 0)} ${["bytes", "kB", "MB", "GB"][step]}`;
}

/** Wait until calls pause for so many milliseconds. */
export function settled(milliseconds, action) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...values), milliseconds);
  };
}
