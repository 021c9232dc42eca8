/** What the catalog holds, what is being read, and what could not be. */

import { call, forget, watchIndexing } from "../api.js";
import { called, capital, fill, h, number } from "../dom.js";

/** Make the view. */
export function view() {
  let stop = null;
  let last = "";
  const now = h("div", { class: "now", role: "status" });
  const facts = h("div", {});
  const node = h("div", { class: "status" }, h("h1", {}, "Status"), now, facts);

  async function draw() {
    forget();
    const held = await call("/api/catalog");
    fill(facts,
      h("ul", { class: "counts" }, h("li", {}, h("b", {}, number(held.items)), held.items === 1 ? "item" : "items"),
        Object.entries(held.counts).map(([kind, count]) =>
          h("li", {}, h("b", {}, number(count)), h("span", { class: `dot ${kind}` }), called(kind)))),
      h("dl", { class: "facts" }, [["Catalog", held.name], ["Revision", String(held.revision)], ["Fingerprint", h("code", {}, held.fingerprint)],
        ["Probabilities", held.calibrated ? "yes, from validation pairs" : "no: the space has no validation pairs"],
        ["Watches", held.watching.join(", ") || "nothing"], ["Makes", held.generates.map((kind) => called(kind)).join(", ") || "nothing"]].map(([key, value]) =>
        h("div", {}, h("dt", {}, key), h("dd", {}, value)))),
      h("section", { "aria-label": "Failures" }, h("h2", {}, "Could not be read ", h("small", {}, number(held.failed))),
        held.failures.length ? h("ul", { class: "failures" }, held.failures.map(({ uri, reason }) => h("li", {}, h("code", {}, uri), h("span", {}, reason.replace(`${uri}: `, "")))),
          held.failed > held.failures.length && h("li", {}, `and ${number(held.failed - held.failures.length)} more`))
          : h("p", { class: "hint" }, "Everything that was found could be read.")));
  }

  function drawState(told) {
    if (!told) return fill(now);
    const { watching, running, done, total, failed, last_error: error } = told;
    const bar = h("progress", { max: 1, "aria-label": "Indexing" });
    if (total) bar.value = done / total;
    fill(now, h("p", {}, running ? `Indexing ${number(done)}${total ? ` of ${number(total)}` : ""}` : watching ? "Watching for changes; everything is indexed."
      : "Nothing is watched: what is indexed later appears here."), running && bar,
    failed > 0 && h("p", { class: "hint" }, `${number(failed)} could not be read`), error && h("p", { class: "note" }, capital(error)));
    const key = `${running} ${done} ${failed}`;
    if (last && key !== last) draw();
    last = key;
  }

  return {
    node,
    hide() {
      stop?.();
      stop = null;
    },
    async show() {
      stop ??= watchIndexing(drawState);
      await draw();
    },
  };
}
