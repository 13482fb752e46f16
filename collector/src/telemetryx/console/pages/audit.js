// The audit log: who changed what, when, from where, and what it was before and after.
import { html, nothing, render } from "../vendor/lit-html-3.3.3/lit-html.js";
import { repeat } from "../vendor/lit-html-3.3.3/directives/repeat.js";
import { get } from "../api.js";
import * as format from "../format.js";
import { failure, filterField } from "../parts.js";
import { go, query, withQuery } from "../url.js";

export const title = "Audit";
const LIMIT = 100;

export function open(place) {
  let rows = [];
  let error = null;
  let loaded = false;
  let request = null;

  async function load() {
    request?.abort();
    request = new AbortController();
    const { actor, action, target, before } = query();
    try {
      ({ audit: rows } = await get("audit", { actor, action, target, before, limit: LIMIT }, request.signal));
      error = null;
      loaded = true;
    } catch (problem) {
      if (problem.name === "AbortError") return;
      error = problem;
    }
    draw();
  }

  const row = (entry) => html`<tr><td title=${format.when(entry.at_ns)}>${format.at(entry.at_ns)}</td><th scope="row">${entry.actor}</th>
    <td>${entry.via}${entry.peer ? html` <span class="soft">${entry.peer}</span>` : nothing}</td><td><code>${entry.action}</code></td><td>${entry.target}</td>
    <td class="wide">${changed(entry).map(([name, before, after]) => html`<div><span class="soft">${name}</span> ${before === undefined ? after : after === undefined ? html`<del>${before}</del>` : html`<del>${before}</del> → ${after}`}</div>`)}</td></tr>`;

  function draw() {
    const last = rows.at(-1);
    render(html`<h1>Audit</h1><p class="lead">Every change through console, API and command line, newest first. Secrets are never in it.</p>
      ${failure(error)}
      <div class="bar">${filterField("Who", "actor")}${filterField("What", "action", "user, or user.add")}${filterField("To what", "target")}</div>
      <div class="scroll" role="group" tabindex="0" aria-label="Audit log"><table><caption>${rows.length} ${rows.length === 1 ? "entry" : "entries"}</caption>
        <thead><tr><th scope="col">When</th><th scope="col">Who</th><th scope="col">From</th><th scope="col">What</th><th scope="col">To what</th><th scope="col">Change</th></tr></thead>
        <tbody>${repeat(rows, (entry) => entry.id, row)}</tbody></table></div>
      ${rows.length === 0 && loaded ? html`<p class="empty">Nothing like that was changed.</p>` : nothing}
      <nav class="pager" aria-label="Pages">${query().before ? html`<button @click=${() => go(withQuery({ before: "" }))}>Newest</button>` : nothing}
        ${rows.length === LIMIT ? html`<button @click=${() => go(withQuery({ before: last.id }))}>Older</button>` : nothing}</nav>`, place);
  }

  load();
  const close = () => request?.abort();
  close.update = load;
  return close;
}

/** What differs, as [name, before, after]; all of it where something is new or gone, and not what it hasn't. */
function changed({ before, after }) {
  const names = [...new Set([...Object.keys(before ?? {}), ...Object.keys(after ?? {})])];
  const empty = (value) => value === null || value === "" || value?.length === 0;
  const text = (name, value) => value === undefined || (empty(value) && !(before && after)) ? undefined : name.endsWith("_ns") && value ? format.at(value) : typeof value === "string" ? value : JSON.stringify(value);
  return names.map((name) => [name.replace(/_ns$/, ""), text(name, before?.[name]), text(name, after?.[name])]).filter(([, one, two]) => one !== two);
}
