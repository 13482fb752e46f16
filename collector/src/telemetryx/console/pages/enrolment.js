// Enrolment: the tokens with which hosts join, and the agents that did. Operators look; admins make tokens, let agents in, shut them out.
import { html, nothing, render } from "../vendor/lit-html-3.3.3/lit-html.js";
import { repeat } from "../vendor/lit-html-3.3.3/directives/repeat.js";
import { get, send } from "../api.js";
import * as format from "../format.js";
import { choiceField, failure, filterField, speak, stateBadge } from "../parts.js";
import { can } from "../session.js";
import { go, link, query, withQuery } from "../url.js";

export const title = "Enrolment";
const SPANS = [["1h", "an hour"], ["8h", "8 hours"], ["24h", "a day"], ["7d", "7 days"], ["30d", "30 days"]];
const STATES = [["", "all"], ["pending", "waiting for approval"], ["active", "active"], ["revoked", "revoked"]];
const AGENTS = 100;
const TOKENS = 20;
/** A host that joins is seen without being asked for. */
const EVERY = 5_000;

export function open(place) {
  let agents = { agents: [], next: null };
  let tokens = { tokens: [], next: null };
  let waiting = false;
  let error = null;
  let loaded = false;
  let made = null;
  let copied = false;
  let asked = null;
  let busy = false;
  let request = null;

  async function load() {
    request?.abort();
    request = new AbortController();
    const { signal } = request;
    const { state, name, after, tokens_before: before } = query();
    try {
      let some;
      [agents, tokens, some] = await Promise.all([
        get("enroll/agents", { state, filter: name, after, limit: AGENTS }, signal),
        get("enroll/tokens", { before, limit: TOKENS }, signal),
        get("enroll/agents", { state: "pending", limit: 1 }, signal),
      ]);
      waiting = some.agents.length > 0;
      // What was refused stays to be read until something is done.
      if (!error?.refused) error = null;
      loaded = true;
    } catch (problem) {
      if (problem.name === "AbortError") return;
      error = problem;
    }
    draw();
  }

  /** Does something once, then shows what there is now: also what was refused. */
  async function change(work) {
    if (busy) return;
    busy = true;
    draw();
    try {
      await work();
      error = null;
    } catch (problem) {
      problem.refused = true;
      error = problem;
    }
    busy = false;
    await load();
  }

  function make(event) {
    event.preventDefault();
    const form = event.target;
    const { site, uses, expires, agent, replace } = Object.fromEntries(new FormData(form));
    change(async () => {
      made = copied = null;
      made = await send("POST", "enroll/tokens", { site, uses: Number(uses), expires, agent: agent || null, replace: replace === "on" });
      form.reset();
    });
  }

  async function copy() {
    try {
      await navigator.clipboard.writeText(made.command);
      copied = true;
      speak("The line is copied");
    } catch {
      speak("The browser doesn't let this page copy: select the line");
    }
    draw();
  }

  const ask = (what) => { asked = what; draw(); place.querySelector("dialog").showModal(); };
  /** Gives the focus back to where it was, which a dialog that is only taken away doesn't. */
  const shut = () => place.querySelector("dialog")?.close();
  const closed = () => { asked = null; draw(); };

  function sure() {
    const { method, path } = asked;
    change(async () => {
      try {
        await send(method, path);
      } finally {
        shut();
        // The button that was pressed may be gone with what it did.
        place.querySelector("h1").focus();
      }
    });
  }

  const path = (agent, verb) => `enroll/agents/${encodeURIComponent(agent)}/${verb}`;
  const approving = (one) => ({ heading: `Let ${one.agent} in?`, text: "It fetches a certificate by itself within seconds, and sends what it has gathered meanwhile. Make sure that it is the host that you expect.", about: one, yes: `Let ${one.agent} in`, method: "POST", path: path(one.agent, "approve") });
  const rejecting = (one) => ({ heading: `Reject ${one.agent}?`, text: "This host's key never comes in, and nothing takes that back. What it has gathered stays on it. The name is free: another host can join with it.", about: one, yes: `Reject ${one.agent}`, method: "POST", path: path(one.agent, "reject") });
  const revoking = (one) => ({ heading: `Revoke ${one.agent}?`, text: `Its live connection is cut at once and for good: neither its certificate nor its key opens anything any more, and nothing takes that back. What it has sent stays here; what it hasn't stays on its host. Only a token for ${one.agent} that may take its place brings the name back.`, about: one, yes: `Revoke ${one.agent} for good`, method: "POST", path: path(one.agent, "revoke") });
  const ending = (one) => ({ heading: `Revoke token ${one.id}?`, text: "Nobody joins with it any more. Agents that joined with it stay: each is revoked by itself.", about: null, yes: `Revoke token ${one.id}`, method: "DELETE", path: `enroll/tokens/${one.id}` });

  const action = (label, name, what) => html`<button aria-label=${`${label} ${name}`} ?disabled=${busy} @click=${() => ask(what)}>${label}</button> `;

  const dialog = () => asked ? html`<dialog aria-labelledby="asked" @close=${closed}><h2 id="asked">${asked.heading}</h2><p>${asked.text}</p>
    ${asked.about ? html`<dl class="facts"><dt>Site</dt><dd>${asked.about.site || "none"}</dd><dt>Joined</dt><dd>${format.at(asked.about.asked_ns)} from ${asked.about.peer || "an unknown address"}, with token ${asked.about.token}</dd>
      <dt>Key</dt><dd><code>${asked.about.key}</code></dd>${asked.about.serial ? html`<dt>Serial</dt><dd><code>${asked.about.serial}</code></dd>` : nothing}</dl>` : nothing}
    <div class="bar"><button ?disabled=${busy} @click=${sure}>${asked.yes}</button><button autofocus @click=${shut}>No</button></div></dialog>` : nothing;

  const agent = (one) => html`<tr><th scope="row">${one.state === "active" ? html`<a href=${link("/agent", { name: one.agent })}>${one.agent}</a>` : one.agent}</th>
    <td>${stateBadge(one.state)}</td><td>${one.site || "–"}</td>
    <td title=${format.at(one.asked_ns)}>${format.when(one.asked_ns)} <span class="soft">${one.peer}</span></td>
    <td title=${`Key, SHA-256: ${one.key}`}>${one.serial ? html`<code title=${`Serial number ${one.serial}`}>${short(one.serial)}</code>` : html`<span class="soft">none yet</span>`}</td>
    <td>${ends(one)}</td><td title=${one.renewed_ns === null ? "never" : format.at(one.renewed_ns)}>${one.renewed_ns === null ? "–" : format.when(one.renewed_ns)}</td>
    ${can("admin") ? html`<td>${one.state === "pending" ? html`${action("Approve", one.agent, approving(one))}${action("Reject", one.agent, rejecting(one))}` : one.state === "active" ? action("Revoke", one.agent, revoking(one)) : nothing}</td>` : nothing}</tr>`;

  const token = (one) => html`<tr><th scope="row">${one.id}</th><td>${stateBadge(one.state)}</td><td>${one.site || "–"}</td>
    <td>${one.agent ? html`${one.agent}${one.replace ? html` <span class="soft">may take its place</span>` : nothing}` : "any"}</td>
    <td class="number">${one.uses - one.used} of ${one.uses}</td><td>${format.at(one.expires_ns)}</td><td title=${format.at(one.created_ns)}>${one.author}</td>
    ${can("admin") ? html`<td>${one.state === "open" ? action("Revoke", `token ${one.id}`, ending(one)) : nothing}</td>` : nothing}</tr>`;

  const shown = () => html`<div class="note" role="status">
    <p>The line for ${made.uses === 1 ? "one host" : `${made.uses} hosts`}${made.site ? ` of ${made.site}` : ""}, to paste there as root. It is shown only now, and holds until ${format.at(made.expires_ns)}.</p>
    <pre class="line" tabindex="0" role="group" aria-label="Line to paste">${made.command}</pre>
    <div class="bar">${navigator.clipboard ? html`<button @click=${copy}>${copied ? "Copied" : "Copy the line"}</button>` : nothing}<button @click=${() => { made = null; draw(); }}>Hide it</button></div></div>`;

  const form = () => html`<form class="bar" aria-label="New enrolment token" @submit=${make}>
    <label>Site<input name="site" autocomplete="off" maxlength="200"></label>
    <label>Hosts<input name="uses" type="number" min="1" max="10000" value="1" required></label>
    <label>Holds for<select name="expires">${SPANS.map(([span, words]) => html`<option value=${span} ?selected=${span === "24h"}>${words}</option>`)}</select></label>
    <label>Only for the agent<input name="agent" autocomplete="off" autocapitalize="none" spellcheck="false" maxlength="128" pattern="[A-Za-z0-9._\\-]+" placeholder="any"></label>
    <label class="check"><input name="replace" type="checkbox">It may take that agent's place: a rebuilt host</label>
    <button ?disabled=${busy}>Make the token</button></form>`;

  function draw() {
    const { after, tokens_before: before } = query();
    render(html`<h1 tabindex="-1">Enrolment</h1><p class="lead">A host joins with a token, gets a certificate for its own key, and renews that by itself.</p>
      ${failure(error)}
      ${waiting && query().state !== "pending" ? html`<p class="note">Agents wait for approval. <a href=${withQuery({ state: "pending", name: "", after: "" })}>Show them</a></p>` : nothing}
      <h2>Agents</h2>
      <div class="bar">${choiceField("State", "state", STATES)}${filterField("Name", "name", "part of a name")}</div>
      <div class="scroll" role="group" tabindex="0" aria-label="Enrolled agents"><table><caption>${agents.agents.length} enrolled ${agents.agents.length === 1 ? "agent" : "agents"}${agents.next === null ? "" : ", and more"}</caption>
        <thead><tr><th scope="col">Agent</th><th scope="col">State</th><th scope="col">Site</th><th scope="col">Joined</th><th scope="col">Certificate</th><th scope="col">Valid until</th><th scope="col">Last renewal</th>${can("admin") ? html`<th scope="col">Decide</th>` : nothing}</tr></thead>
        <tbody>${repeat(agents.agents, (one) => one.agent, agent)}</tbody></table></div>
      ${agents.agents.length === 0 && loaded ? html`<p class="empty">${query().state || query().name || after ? "No enrolled agent is like that." : "No agent has joined with a token yet."}</p>` : nothing}
      ${pages("Pages of agents", after && ["First", { after: "" }], agents.next !== null && ["Next", { after: agents.next }])}
      <h2>Tokens</h2>
      ${made ? shown() : nothing}
      ${can("admin") ? form() : nothing}
      <div class="scroll" role="group" tabindex="0" aria-label="Enrolment tokens"><table><caption>Enrolment tokens, newest first</caption>
        <thead><tr><th scope="col">Token</th><th scope="col">State</th><th scope="col">Site</th><th scope="col">For</th><th scope="col" class="number">Uses left</th><th scope="col">Until</th><th scope="col">Made by</th>${can("admin") ? html`<th scope="col">Revoke</th>` : nothing}</tr></thead>
        <tbody>${repeat(tokens.tokens, (one) => one.id, token)}</tbody></table></div>
      ${tokens.tokens.length === 0 && loaded ? html`<p class="empty">There is no enrolment token.</p>` : nothing}
      ${pages("Pages of tokens", before && ["Newest", { tokens_before: "" }], tokens.next !== null && ["Older", { tokens_before: tokens.next }])}
      ${dialog()}`, place);
  }

  load();
  const timer = setInterval(() => { if (!document.hidden && !busy) load(); }, EVERY);
  const close = () => { request?.abort(); clearInterval(timer); };
  close.update = load;
  return close;
}

const short = (hex) => (hex.length > 16 ? `${hex.slice(0, 16)}…` : hex);

/** A certificate that has ended is no reason to act: its agent renews it when it is there again. */
function ends({ state, expires_ns: until }) {
  if (until === null) return "–";
  if (state === "active" && until / 1e6 < Date.now()) return html`<span class="state busy" data-icon="!" title="Its agent renews it when it reaches the collector again">ended ${format.at(until)}</span>`;
  return format.at(until);
}

function pages(label, back, on) {
  if (!back && !on) return nothing;
  return html`<nav class="pager" aria-label=${label}>${[back, on].filter(Boolean).map(([text, where]) => html`<button @click=${() => go(withQuery(where))}>${text}</button>`)}</nav>`;
}
