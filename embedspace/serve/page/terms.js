/** What the terms of a query are made of: words by the query grammar, files and recordings that the server keeps a while. */

import { call, typeOf, ApiError } from "./api.js";
import { kindOf } from "./state.js";

const files = new Map(); // ref -> {file, kind, modalities, names}: what this page has sent, to send it again
const STORE = "labels";
let labels = {};
try {
  labels = JSON.parse(sessionStorage.getItem(STORE) ?? "{}");
} catch { /* storage is off: labels last as long as the page */ }

const keyOf = (term) => `${kindOf(term)}:${term[kindOf(term)]}`;

/** Return what a term is called, or "" where that is not known yet. */
export const labelOf = (term) => term.text ?? labels[keyOf(term)]?.label ?? "";

/** Return what is known of a term: label, kind, modalities, names. */
export const known = (term) => ({ ...labels[keyOf(term)], ...files.get(term.ref) });

/** Remember what a term is called and of which kind it is. */
export function remember(term, label, kind, modalities = []) {
  labels[keyOf(term)] = { label, kind, modalities: modalities.length ? modalities : (labels[keyOf(term)]?.modalities ?? []) };
  try {
    sessionStorage.setItem(STORE, JSON.stringify(labels));
  } catch { /* full or off */ }
}

/** Send a file; returns its term. A recording of the microphone is heard as speech where the space can. */
export async function send(file, { spoken = false, as: forced = "" } = {}) {
  const name = file.name || "pasted";
  const heard = forced && `&as=${forced}`;
  const told = await call(`/api/queries?name=${encodeURIComponent(name)}${heard}`, { method: "POST", body: file, type: typeOf(file) });
  const modalities = told.modalities ?? [];
  const as = forced ? forced : modalities.length < 2 ? null : spoken && modalities.includes("speech") ? "speech" : modalities[0];
  const term = { ref: told.ref, weight: 1, as };
  files.set(told.ref, { ...told, file, modalities });
  remember(term, name, told.kind, modalities);
  return term;
}

/** Send again the files of a query that the server no longer has; returns the terms, or null where one is lost. */
export async function revive(terms) {
  const found = [];
  for (const term of terms) {
    const own = files.get(term.ref);
    if (term.ref && !own) return null;
    const again = term.ref && (await send(own.file, { as: own.modalities.includes(term.as) && own.modalities.length > 1 ? "" : term.as ?? "" }));
    found.push(term.ref ? { ...again, weight: term.weight, as: term.as } : term);
  }
  return found;
}

/** Return a recording as it is to be heard, as "speech" or "audio": sent again where that is not what it was taken for. */
export async function hear(term, as) {
  const { modalities, file } = known(term);
  if (modalities.includes(as) || !file) return { ...term, as };
  return { ...(await send(file, { as })), weight: term.weight };
}

/** Return whether an error says that the server no longer has a file. */
export const isExpired = (error, terms) =>
  error instanceof ApiError && error.param === "ref" && terms.some((term) => term.ref);

/**
 * Read words by the grammar of queries: "2:dog + rain - grass". An operator is a + or - with white space around it;
 * what stands in quotes is one text.
 */
export function parse(text) {
  const terms = [];
  const reader = /\s*(?:([+-])\s+)?(?:([+-]?(?:\d+\.?\d*|\.\d+)):(?=\S))?("[^"]*"|'[^']*'|[^]*?)(?=\s[+-]\s|\s*$)/y;
  while (reader.lastIndex < text.length) {
    const [whole, sign, weight, value] = reader.exec(text) ?? [""];
    if (!whole) break;
    const words = value.replace(/^(["'])([^]*)\1$/, "$2").trim();
    if (words) terms.push({ text: words, weight: (sign === "-" ? -1 : 1) * Number(weight ?? 1), as: null });
  }
  return terms;
}

/** Return the terms as the server takes them. */
export const asked = (terms) => terms.map((term) => ({ [kindOf(term)]: term[kindOf(term)], weight: term.weight, as: term.as }));
