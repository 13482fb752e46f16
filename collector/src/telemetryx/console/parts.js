// Small pieces that every page uses: states, sortable headings, paging, notes, fields.
import { html, nothing } from "./vendor/lit-html-3.3.3/lit-html.js";
import * as format from "./format.js";
import { go, query, withQuery } from "./url.js";

export function stateBadge(name) {
  const [icon, style, word] = format.state(name);
  return html`<span class="state ${style}" data-icon=${icon}>${word}</span>`;
}

/** How far an agent's clock is off: a mark from a second on, and its own word while nobody has set it. */
export function clockMark({ skew_ms: skew, clock_set: known }) {
  if (known === false) return html`<span class="state off" data-icon="?">clock not set</span>`;
  if (skew === null) return "unknown";
  const off = Math.abs(skew) / 1e3;
  if (off < 1) return html`${format.number(Math.round(skew * 10) / 10)} ms`;
  return html`<span class="state busy" data-icon="!">${format.number(Math.round(off * 10) / 10)} s ${skew > 0 ? "ahead" : "behind"}</span>`;
}

/** What the address says of a list's page: taken out, it shows the first ones. Another filter or order is another list. */
export const FIRST = { offset: "", after: "", before: "", dafter: "", dbefore: "" };

/** A column heading that sorts on the server; says its direction to everyone. */
export function sortHeading(label, key, current, order, numeric = false) {
  const active = current === key;
  const next = active && order === "asc" ? "desc" : "asc";
  return html`<th scope="col" class=${numeric ? "number" : ""} aria-sort=${active ? (order === "asc" ? "ascending" : "descending") : "none"}>
    <button @click=${() => go(withQuery({ sort: key, order: next, ...FIRST }))}>${label}${active ? (order === "asc" ? " ▲" : " ▼") : ""}</button></th>`;
}

/** Goes through a list's pages by the answer's own places, so that none of its rows is passed over while others change; by `offset` where none are given. */
export function pager({ total, skipped, next, previous }, shown, limit, label, names = { after: "after", before: "before", offset: "offset" }) {
  if (skipped === 0 && shown >= total) return nothing;
  const first = Object.fromEntries(Object.values(names).map((name) => [name, ""]));
  const to = (change) => go(withQuery({ ...first, ...change }));
  const back = () => to(previous ? { [names.before]: previous } : names.offset ? { [names.offset]: Math.max(0, skipped - limit) || "" } : {});
  const on = () => to(next ? { [names.after]: next } : { [names.offset]: skipped + limit });
  return html`<nav class="pager" aria-label=${label}>
    <button ?disabled=${skipped === 0} @click=${back}>Previous</button>
    <span>${shown === 0 ? 0 : skipped + 1}–${skipped + shown} of ${total}</span>
    <button ?disabled=${skipped + shown >= total} @click=${on}>Next</button></nav>`;
}

export function failure(error) {
  if (!error) return nothing;
  return html`<p class="note bad" role="alert"><strong>${error.message}.</strong> ${error.hint ?? ""}</p>`;
}

let typing;
/** A text field that filters while one types; the address follows. */
export function filterField(label, name, placeholder = "") {
  return html`<label>${label}<input type="search" name=${name} placeholder=${placeholder} .value=${query()[name] ?? ""}
    @input=${(event) => {
      const { value } = event.target;
      clearTimeout(typing);
      typing = setTimeout(() => go(withQuery({ [name]: value, ...FIRST }), { replace: true }), 250);
    }}></label>`;
}

/** One choice of a few; `options` are [value, text]. */
export function choiceField(label, name, options, fallback = "") {
  const current = query()[name] ?? fallback;
  return html`<label>${label}<select name=${name} @change=${(event) => go(withQuery({ [name]: event.target.value, ...FIRST }))}>
    ${options.map(([value, text]) => html`<option value=${value} ?selected=${value === current}>${text}</option>`)}</select></label>`;
}

/** Speaks to assistive technology, at most once a second. */
let spokenAt = 0;
let waiting;
export function speak(text) {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    spokenAt = performance.now();
    document.getElementById("spoken").textContent = text;
  }, Math.max(150, 1000 - (performance.now() - spokenAt)));
}
