/** The microphone: a strip with a level and a clock, and a file at the end. */

import { announce, clock, fill, h, icon } from "../dom.js";

const LONGEST = 60; // seconds

/** Record into `tray`; `done(file)` with what was recorded, `pick()` where there is no microphone and a file is to do. */
export async function recorder(tray, { done, pick }) {
  const refuse = (reason) => {
    fill(tray, h("p", { class: "note", role: "alert" }, reason, " ",
      h("button", { type: "button", class: "link", onclick: () => (fill(tray), pick()) }, "Choose a file"), " ",
      h("button", { type: "button", class: "link", onclick: () => fill(tray) }, "Dismiss")));
  };
  if (!isSecureContext || !navigator.mediaDevices) {
    return refuse("Browsers give the microphone only to https and to this machine itself (localhost). Record a file instead.");
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  } catch (error) {
    return refuse(error.name === "NotFoundError" ? "No microphone was found."
      : "The browser was not allowed to use the microphone.");
  }
  const parts = [];
  const taken = new MediaRecorder(stream);
  const level = h("span", { class: "level", "aria-hidden": "true" });
  const time = h("span", { class: "time" }, clock(0));
  let kept = true;
  const end = (keep) => {
    kept = keep;
    if (taken.state !== "inactive") taken.stop();
  };
  fill(tray, h("div", { class: "recording" }, level, h("span", {}, "Listening"), time,
    h("button", { type: "button", class: "primary", onclick: () => end(true) }, icon("stop"), "Search with it"),
    h("button", { type: "button", class: "quiet", onclick: () => end(false) }, "Cancel")));
  tray.querySelector(".primary").focus();
  announce("Recording");
  const started = performance.now();
  const audio = new AudioContext();
  const meter = new AnalyserNode(audio, { fftSize: 512 });
  audio.createMediaStreamSource(stream).connect(meter);
  const samples = new Float32Array(meter.fftSize);
  const beat = setInterval(() => {
    meter.getFloatTimeDomainData(samples);
    level.style.setProperty("--level", Math.min(1, 4 * Math.sqrt(samples.reduce((sum, x) => sum + x * x, 0) / samples.length)));
    const passed = (performance.now() - started) / 1000;
    time.textContent = clock(passed);
    if (passed > LONGEST || !tray.isConnected) end(tray.isConnected);
  }, 100);
  taken.ondataavailable = (event) => parts.push(event.data);
  taken.onstop = () => {
    clearInterval(beat);
    audio.close();
    stream.getTracks().forEach((track) => track.stop());
    fill(tray);
    const type = taken.mimeType.split(";")[0];
    if (kept) done(new File(parts, `recording.${type.includes("mp4") ? "m4a" : type.includes("ogg") ? "ogg" : "webm"}`, { type }));
  };
  taken.start();
}
