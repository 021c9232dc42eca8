/** A builder for filters: rows of field, comparison and value, or the filter as it is written. */

import { h, number } from "../dom.js";

const COMPARISONS = {
  text: [["=", "is"], ["!=", "is not"], ["like", "contains"], ["not like", "does not contain"]],
  number: [["=", "is"], ["!=", "is not"], [">=", "at least"], ["<=", "at most"], [">", "more than"], ["<", "less than"]],
  time: [[">=", "since"], ["<", "before"]],
};
const ROW = /^\s*(?:`([^`]+)`|([\p{L}_][\w.]*))\s*(not like|like|>=|<=|!=|=|>|<)\s*(?:'((?:[^']|'')*)'|([-+]?\d+\.?\d*))\s*(?:and\b|$)/iu;

/** Read a filter of simple rows; null where it is more than that. */
function parse(where, fields) {
  const rows = [];
  for (let rest = where.trim(); rest; ) {
    const [whole, quoted, bare, comparison, text, value] = ROW.exec(rest) ?? [];
    const name = quoted ?? bare;
    const field = whole && fields.find((one) => one.name === name);
    if (!field) return null;
    rows.push({ name, comparison: comparison.toLowerCase(), value: text?.replaceAll("''", "'") ?? value });
    const row = rows.at(-1);
    if (row.comparison.endsWith("like")) row.value = row.value.replace(/^%|%$/g, "");
    rest = rest.slice(whole.length).trim();
  }
  return rows;
}

function write(rows, fields) {
  return rows.filter((row) => row.value !== "").map(({ name, comparison, value }) => {
    const kind = fields.find((one) => one.name === name).kind;
    const field = /^[A-Za-z_][\w.]*$/.test(name) ? name : `\`${name}\``;
    const text = comparison.endsWith("like") ? `%${value}%` : value;
    return `${field} ${comparison} ${kind === "text" ? `'${text.replaceAll("'", "''")}'` : value}`;
  }).join(" and ");
}

const day = (seconds) => (seconds === "" ? "" : new Date(1000 * seconds).toISOString().slice(0, 10));
let builders = 0;

/** Make the builder; `apply(where)` is called with a filter, undefined for none. */
export function builder(fields, where, apply) {
  const own = (builders += 1);
  const start = where ? parse(where, fields) : [{ name: fields[0]?.name, comparison: null, value: "" }];
  let rows = start ?? [];
  const list = h("ul", { class: "rows" });
  const written = h("input", { type: "text", class: "code", value: where ?? "", "aria-label": "The filter as it is written",
    spellcheck: false, placeholder: "licence = 'CC0-1.0' and duration < 10" });
  const node = h("form", { class: "where", onsubmit, "aria-label": "Filter" },
    list,
    h("div", { class: "line" },
      fields.length > 0 && h("button", { type: "button", class: "quiet", onclick: more }, "Add a condition"),
      h("button", { type: "submit", class: "primary" }, "Apply"),
      h("button", { type: "button", class: "quiet", onclick: () => ((rows = []), (written.value = ""), draw(), apply(undefined)) }, "Clear")),
    h("label", { class: "written" }, h("span", {}, "As text"), written));

  function onsubmit(event) {
    event.preventDefault();
    apply(written.value.trim() || undefined);
  }

  const changed = () => (written.value = write(rows, fields));
  function more() {
    rows.push({ name: fields[0].name, comparison: null, value: "" });
    draw();
    list.lastElementChild.querySelector("select").focus();
  }

  function draw() {
    list.replaceChildren(...rows.map((row, at) => {
      const field = fields.find((one) => one.name === row.name) ?? fields[0];
      const choices = COMPARISONS[field.kind] ?? COMPARISONS.text;
      row.comparison = choices.some(([sign]) => sign === row.comparison) ? row.comparison : choices[0][0];
      const values = `values-${own}-${at}`;
      const range = field.min !== undefined && field.min !== null && field.kind === "number"
        ? `${number(field.min)} to ${number(field.max)}` : "";
      return h("li", {},
        h("select", { "aria-label": "Field", onchange: (event) => ((row.name = event.target.value), (row.value = ""), draw(), changed()) },
          fields.map(({ name }) => h("option", { value: name, selected: name === row.name }, name))),
        h("select", { "aria-label": `Comparison of ${field.name}`, onchange: (event) => ((row.comparison = event.target.value), changed()) },
          choices.map(([sign, label]) => h("option", { value: sign, selected: sign === row.comparison }, label))),
        h("input", {
          type: { number: "number", time: "date" }[field.kind] ?? "text", step: "any", "aria-label": `Value of ${field.name}`, list: values,
          value: field.kind === "time" ? day(row.value) : row.value, placeholder: range,
          oninput: ({ target }) => {
            row.value = field.kind === "time" ? (target.value ? String(Date.parse(target.value) / 1000) : "") : target.value;
            changed();
          },
        }),
        h("datalist", { id: values }, (field.values ?? []).map(({ value, count }) => h("option", { value }, `${value} (${number(count)})`))),
        h("button", { type: "button", class: "link", "aria-label": `Remove the condition on ${field.name}`,
          onclick: () => (rows.splice(at, 1), draw(), changed()) }, "Remove"));
    }));
  }
  draw();
  return node;
}
