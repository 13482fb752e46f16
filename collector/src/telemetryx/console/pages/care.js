// Remote care on an agent's page: the configuration that it should have and what came of it, another log level, diagnostics.
import { html, nothing } from "../vendor/lit-html-3.3.3/lit-html.js";
import { get, send } from "../api.js";
import * as format from "../format.js";
import { can } from "../session.js";
import { failure, stateBadge } from "../parts.js";

const LEVELS = ["error", "warn", "info", "debug", "trace"];
const SPANS = [["5m", "5 minutes"], ["15m", "15 minutes"], ["1h", "an hour"], ["24h", "a day"]];
const EXAMPLE = "[fold]\nlateness = \"5s\"\n";

/** What an agent's page shows of it; `redraw` is called when something changed. */
export function careOf(name, redraw) {
  let wanted = null;
  let text = null;
  let requests = [];
  let error = null;
  let unread = null;
  let asked = null;
  let busy = false;

  async function load(state) {
    if (!state) return;
    unread = null;
    try {
      if (state.wanted !== (wanted?.version ?? 0)) {
        text = asked = null;
        const { configs } = state.wanted ? await get("configs", { before: state.wanted + 1, limit: 1 }) : { configs: [] };
        wanted = configs[0] ?? null;
      }
      if (can("operator")) ({ requests } = await get("requests", { agent: name, limit: 5 }));
    } catch (problem) {
      unread = problem;
    }
  }

  /** Does something once, then shows what there is now; what it returns is asked next. */
  async function change(work) {
    if (busy) return;
    busy = true;
    error = null;
    redraw();
    try {
      asked = (await work()) ?? null;
    } catch (problem) {
      error = problem;
    }
    busy = false;
    redraw(true);
  }

  const path = `agents/${encodeURIComponent(name)}`;
  const fields = (event) => { event.preventDefault(); return Object.fromEntries(new FormData(event.target)); };

  function look(event) {
    const { toml, note } = fields(event);
    const body = { toml, note, agent: name };
    change(async () => ({ body, reach: await send("POST", "configs/check", body), form: event.target }));
  }

  const pushNow = () => { const { body, form } = asked; return change(async () => { await send("POST", "configs", body); form.reset(); }); };
  const takeBack = () => change(async () => { await send("POST", `configs/${wanted.version}/take-back`); });
  const logLevel = (event) => { const { level, duration } = fields(event); change(async () => { await send("POST", `${path}/log-level`, { level, duration }); }); };
  const diagnose = () => change(async () => { await send("POST", `${path}/diagnostics`, {}); });
  const show = () => change(async () => { text = (await get(`configs/${wanted.version}`)).toml; });
  const no = () => { asked = null; redraw(); };

  const target = () => wanted.agent ? `agent ${wanted.agent}` : wanted.match ? `{${wanted.match}}` : "all agents";

  const why = (state) => state.phase === "unsupported" ? "it takes none: it is of an older version, or its own file says so"
    : state.phase === "declined" ? "its own file says that it takes none"
    : state.phase === "waiting" ? (state.connected ? "on its way" : "it gets it when it is connected") : state.reason;

  const taking = () => asked === "take-back"
    ? html`<button ?disabled=${busy} @click=${takeBack}>Take version ${wanted.version} back from ${target()}</button> <button @click=${no}>No</button>`
    : html`<button ?disabled=${busy} @click=${() => { asked = "take-back"; redraw(); }}>Take back</button>`;

  const pushing = () => asked?.reach
    ? html`<p class="note" role="status">It reaches ${asked.reach.agents.length === 1 ? "this agent" : "no agent"}${asked.reach.offline ? ", when it is connected" : ""}.
        <button ?disabled=${busy} @click=${pushNow}>Push it</button> <button @click=${no}>No</button></p>` : nothing;

  const row = (request) => html`<tr><th scope="row">${request.kind.replaceAll("_", " ")}</th><td>${Object.values(request.args).join(", ")}</td><td>${request.author}</td>
    <td title=${format.at(request.created_ns)}>${format.when(request.created_ns)}</td><td>${stateBadge(request.state)}</td>
    <td class="wide">${request.reason}${request.kind === "diagnostics" && request.state === "done" ? html`<a href=${`/api/v1/requests/${request.id}/answer`} download>Download, ${format.bytes(request.bytes)}</a>` : request.state === "asked" && request.bytes ? format.bytes(request.bytes) : nothing}</td></tr>`;

  const operator = (state) => html`
    <form class="bar" aria-label="Log level" @submit=${logLevel}>
      <label>Log level<select name="level">${LEVELS.map((level) => html`<option ?selected=${level === "debug"}>${level}</option>`)}</select></label>
      <label>For<select name="duration">${SPANS.map(([span, words]) => html`<option value=${span} ?selected=${span === "15m"}>${words}</option>`)}</select></label>
      <button ?disabled=${busy || !state.requests}>Set it</button>
      <button type="button" ?disabled=${busy || !state.requests} @click=${diagnose}>Ask for diagnostics</button></form>
    ${state.requests ? nothing : html`<p class="soft">It takes no requests: it is of an older version, or its own file says so.</p>`}
    ${requests.length ? html`<div class="scroll" role="group" tabindex="0" aria-label="Requests"><table><caption>Asked of this agent</caption>
      <thead><tr><th scope="col">What</th><th scope="col">With</th><th scope="col">By</th><th scope="col">When</th><th scope="col">State</th><th scope="col">Answer</th></tr></thead>
      <tbody>${requests.map(row)}</tbody></table></div>` : nothing}`;

  const admin = () => html`
    <form aria-label="Push a configuration" @submit=${look}>
      <label class="field">Configuration for this agent, TOML: what differs from the file on its host<textarea name="toml" rows="6" spellcheck="false" maxlength="262144" placeholder=${EXAMPLE} required></textarea></label>
      <div class="bar"><label>Why<input name="note" maxlength="500"></label><button ?disabled=${busy}>Check and push</button></div></form>
    ${pushing()}`;

  function draw(state) {
    if (!state) return nothing;
    return html`<h2>Remote care</h2>${failure(error ?? unread)}
      <dl class="facts">
        <dt>Wanted</dt><dd>${wanted ? html`version ${wanted.version} <span class="soft">for ${target()}, by ${wanted.author} ${format.when(wanted.created_ns)}${wanted.note ? `: ${wanted.note}` : ""}</span>` : "none: the file on its host"}</dd>
        <dt>Phase</dt><dd>${stateBadge(state.phase)} <span class=${state.phase === "failed" ? "" : "soft"}>${why(state)}</span></dd>
        <dt>In force</dt><dd>${state.in_force ? `version ${state.in_force}` : "the file on its host"}</dd>
      </dl>
      ${wanted ? html`<p>${can("operator") && text === null ? html`<button ?disabled=${busy} @click=${show}>Show its text</button> ` : nothing}${can("admin") ? taking() : nothing}</p>` : nothing}
      ${text === null ? nothing : html`<pre class="scroll" tabindex="0" role="group" aria-label="Text of the configuration">${text}</pre>`}
      ${can("admin") ? admin() : nothing}${can("operator") ? operator(state) : nothing}`;
  }

  return { load, draw };
}
