/** Sounds: one player for the page, and waveforms that show and move where it is. */

import { call } from "../api.js";
import { clock, h, icon } from "../dom.js";

const audio = new Audio();
audio.preload = "none";
let current = null; // the waveform that is playing

const SVG = "http://www.w3.org/2000/svg";
const draw = (name, attributes) => {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
};
const near = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    near.unobserve(target);
    target.dispatchEvent(new Event("near"));
  }
}, { rootMargin: "200px" });

function shape(peaks) {
  const bars = 96;
  return Array.from({ length: bars }, (_, bar) => {
    const part = peaks.slice(Math.floor((bar * peaks.length) / bars), Math.ceil(((bar + 1) * peaks.length) / bars));
    const height = Math.max(1.5, 46 * Math.max(0, ...part));
    return `M${bar * 4 + 2} ${25 - height / 2}v${height}`;
  }).join("");
}

/**
 * Make a waveform with its button. It plays from `start`, where the hit is; `fallback` is played where the browser does
 * not know the original's format.
 */
export function waveform({ name, waveform: peaks, media, fallback, start = 0, end = null, soon = false }) {
  let duration = 0;
  const own = { stopped: () => show(false) };
  const svg = draw("svg", { viewBox: "0 0 384 50", preserveAspectRatio: "none", "aria-hidden": "true" });
  const field = h("div", { class: "field", onclick: seek }, svg);
  const time = h("span", { class: "time" }, start || end ? `${clock(start)}–${end === null ? "" : clock(end)}` : "");
  const button = h("button", { type: "button", class: "icon play", onclick: toggle });
  const node = h("div", { class: "wave" }, button, field, time);
  field.addEventListener("near", async () => {
    const told = peaks && (await call(peaks).catch(() => null));
    if (!told) return;
    duration = told.duration;
    const path = shape(told.peaks);
    if (end !== null && duration && end - start < 0.95 * duration) {
      const scale = 384 / duration;
      svg.append(draw("rect", { x: start * scale, y: 0, width: Math.max(2, (end - start) * scale), height: 50, class: "part" }));
    } else time.textContent = clock(duration);
    svg.append(draw("path", { d: path, class: "bars" }), draw("path", { d: path, class: "played" }));
  });
  if (soon) field.dispatchEvent(new Event("near"));
  else near.observe(field);
  show(false);

  function show(playing) {
    button.replaceChildren(icon(playing ? "pause" : "play"));
    button.setAttribute("aria-label", `${playing ? "Pause" : "Play"} ${name}${start && !playing ? ` from ${clock(start)}` : ""}`);
    node.classList.toggle("playing", playing);
  }

  function toggle() {
    if (current === own && !audio.paused) return audio.pause();
    if (current === own && audio.currentTime < audio.duration) return void audio.play();
    begin(start);
  }

  function seek(event) {
    const box = field.getBoundingClientRect();
    const length = duration || audio.duration || 0;
    if (length) begin(((event.clientX - box.left) / box.width) * length);
  }

  function begin(at) {
    if (current !== own) {
      current?.stopped();
      current = own;
      audio.src = media;
    }
    audio.onerror = () => {
      if (fallback && !audio.src.endsWith(fallback)) {
        audio.src = fallback;
        audio.currentTime = at;
        audio.play().catch(() => {});
      } else {
        show(false);
        time.textContent = "cannot be played";
      }
    };
    audio.onplay = () => show(true);
    audio.onpause = audio.onended = () => show(false);
    audio.ontimeupdate = () => {
      const length = audio.duration || duration;
      if (!length) return;
      field.style.setProperty("--at", `${(100 * audio.currentTime) / length}%`);
      time.textContent = `${clock(audio.currentTime)} / ${clock(length)}`;
      button.dataset.at = audio.currentTime.toFixed(2);
    };
    audio.currentTime = at;
    audio.play().catch(() => {}); // what goes wrong arrives at onerror
  }
  return node;
}

/** Make a video that begins at `start`; where the browser does not know the original's format the preview is played. */
export function film({ id, media, thumbnail, start }, { autoplay = false } = {}) {
  const at = start ? `#t=${start}` : "";
  const preview = `/api/items/${encodeURIComponent(id)}/preview${at}`;
  const video = h("video", { src: media + at, controls: true, autoplay, preload: "metadata", poster: thumbnail ?? "",
    onerror: () => video.src.endsWith(preview) || (video.src = preview) });
  return video;
}

/** Stop what plays: its view is gone. */
export const silence = () => audio.pause();
