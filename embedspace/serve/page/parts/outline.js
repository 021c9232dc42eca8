/** What is drawn where: an outline, a silhouette or edges, drawn here or taken from a picture. */

import { announce, capital, fill, h } from "../dom.js";
import { canvasOf, chooser, panelOf, png, surface, tools } from "./paint.js";
import { seen, sent } from "./sent.js";

const SIDE = 512;

/** Make the panel; as `editor` of edit.js, with the one option `map`. */
export function outline({ options, leave }) {
  const panel = panelOf("Draw where it goes", { leaving: "Draw nothing", leave });
  let [paper, ground, drawn] = [null, null, null]; // the picture below the strokes, and the map as it was sent last

  function lay(bitmap, name = "") {
    const scale = bitmap ? Math.min(1, SIDE / Math.max(bitmap.width, bitmap.height)) : 1;
    const [width, height] = bitmap ? [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale))) : [SIDE, SIDE];
    ground = bitmap ? name : null;
    paper = surface({
      width, height, mark: "#000", rub: "#fff",
      label: "Draw where it goes: the arrows move the pen, space begins and ends a stroke, backspace takes the last one back",
      changed() {
        drawn = null;
        panel.say("");
      },
    });
    const below = Object.assign(paper.base.getContext("2d"), { fillStyle: "#fff" });
    below.fillRect(0, 0, width, height);
    if (bitmap) below.drawImage(bitmap, 0, 0, width, height);
    paper.use("paint");
    drawn = null;
    fill(panel.body,
      h("div", { class: "stage-of" }, paper.node),
      h("div", { class: "controls" }, h("p", { class: "hint" }, `${capital(options.map.help)}.`), ground && h("p", {}, h("b", {}, ground)),
        tools(paper, { size: 0.03, also: [...chooser("Use a picture", "image/*", take), ground && h("button", { type: "button", class: "quiet", onclick: () => lay(null) }, "Empty sheet")] })));
  }

  async function take(file) {
    const bitmap = await seen(file);
    const name = file.name || "pasted picture";
    if (!bitmap) return panel.say(`${name}: cannot be read as a picture`);
    panel.say("");
    lay(bitmap, name);
    announce(`${name} says what is drawn where`);
  }

  lay(null);
  return {
    node: panel.node,
    take,
    isFilled: true,
    async options() {
      if (!paper.strokes.length && !ground) throw new Error("draw an outline, or close its panel");
      if (!drawn) {
        const both = canvasOf(paper.base.width, paper.base.height);
        for (const layer of [paper.base, paper.ink]) both.getContext("2d").drawImage(layer, 0, 0);
        drawn = sent(await png(both), ground ?? "drawn.png");
      }
      return { map: (await drawn.told()).ref };
    },
    forget: () => drawn?.forget(),
  };
}
