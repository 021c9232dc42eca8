/**
 * The page's state is its address: what is asked, filtered and looked at can be shared, and back and forward work.
 *
 * A term is {text | ref | id, weight, as}. In the address it is `text=`, `ref=` or `id=` with "weight*" before the value
 * where the weight is not 1, and ".modality" after a recording that is to be heard as one: `ref=-1*k3Q.speech`.
 */

const KINDS = ["text", "ref", "id"];
const NUMBERS = ["p", "k", "count", "candidates", "seed", "guidance", "seconds", "size", "steps", "start", "at"];
const WORDS = ["view", "item", "to", "where", "job", "find"];
/** Begins the keys of options that only some target from elsewhere has. */
const OTHER = "with.";
const listeners = new Set();

/** Return the key in the state for an option of what is made. */
export const keyOf = (option) => (NUMBERS.includes(option) ? option : OTHER + option);

function readTerm(kind, value) {
  const [, weight, rest] = /^(?:([+-]?\d*\.?\d+)\*)?([^]*)$/.exec(value);
  const term = { [kind]: rest, weight: weight === undefined ? 1 : Number(weight), as: null };
  const as = kind === "text" ? null : /^(.*)\.([a-z_]+)$/.exec(rest);
  if (as) [term[kind], term.as] = [as[1], as[2]];
  return term;
}

function writeTerm(term) {
  const kind = kindOf(term);
  const value = term[kind];
  const plain = term.weight === 1 && !/^[+-]?\d*\.?\d+\*/.test(value);
  return [kind, (plain ? "" : `${term.weight}*`) + value + (term.as ? `.${term.as}` : "")];
}

/** Return "text", "ref" or "id". */
export const kindOf = (term) => KINDS.find((kind) => kind in term);

/** Read an address's query string. */
export function read(search = location.search) {
  const state = { view: "search", terms: [], group: false };
  for (const [key, value] of new URLSearchParams(search)) {
    if (KINDS.includes(key)) value && state.terms.push(readTerm(key, value));
    else if (NUMBERS.includes(key)) value !== "" && Number.isFinite(Number(value)) && (state[key] = Number(value));
    else if (WORDS.includes(key)) state[key] = value;
    else if (key.startsWith(OTHER)) state[key] = value;
    else if (key === "group") state.group = value === "1";
  }
  return state;
}

/** Return the address of a state. */
export function address(state) {
  const query = new URLSearchParams();
  if (state.view && state.view !== "search") query.append("view", state.view);
  for (const term of state.terms ?? []) query.append(...writeTerm(term));
  for (const key of [...WORDS.slice(1), ...NUMBERS, ...Object.keys(state).filter((key) => key.startsWith(OTHER))]) {
    if (key === "at" && !state.item) continue; // where an item is played from
    if (state[key] !== undefined && state[key] !== null && state[key] !== "") query.append(key, state[key]);
  }
  if (state.group) query.append("group", "1");
  const text = query.toString();
  return text ? `/?${text}` : "/";
}

/** Change the state: a new entry of the history, or with `replace` the same one. `quiet` draws nothing. */
export function go(changes, { replace = false, quiet = false } = {}) {
  const next = address({ ...read(), ...changes });
  if (next !== location.pathname + location.search) history[replace ? "replaceState" : "pushState"](null, "", next);
  if (!quiet) for (const listener of listeners) listener();
}

/** Call a function whenever the state changes. */
export function onChange(listener) {
  listeners.add(listener);
  addEventListener("popstate", listener);
}

/** The filters of a search, for links that keep them. */
export const filtersOf = ({ to, where, p, group }) => ({ to, where, p, group });
