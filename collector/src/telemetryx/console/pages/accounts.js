// Accounts of people and tokens of programs, for admins.
import { html, nothing, render } from "../vendor/lit-html-3.3.3/lit-html.js";
import { repeat } from "../vendor/lit-html-3.3.3/directives/repeat.js";
import { live } from "../vendor/lit-html-3.3.3/directives/live.js";
import { get, send } from "../api.js";
import * as format from "../format.js";
import { failure } from "../parts.js";
import * as session from "../session.js";

export const title = "Accounts";
const ROLES = ["viewer", "operator", "admin"];
const SPANS = [["30d", "30 days"], ["90d", "90 days"], ["365d", "a year"], ["3650d", "ten years"]];

export function open(place) {
  let users = [];
  let tokens = [];
  let error = null;
  let made = null;
  let asked = null;
  /** What becomes of the tokens of whom one removes, unless one says otherwise. */
  let revoking = true;
  let gone = null;
  let closed = false;

  async function load() {
    try {
      [{ users }, { tokens }] = await Promise.all([get("users"), get("tokens")]);
    } catch (problem) {
      error = problem;
    }
    if (!closed) draw();
  }

  /** Does something, then shows what there is now: also what was refused. */
  async function change(work) {
    try {
      gone = null;
      await work();
      error = null;
      asked = null;
    } catch (problem) {
      error = problem;
    }
    await load();
  }

  function add(event) {
    event.preventDefault();
    const form = event.target;
    const fields = Object.fromEntries(new FormData(form));
    change(async () => {
      await send("POST", "users", fields);
      form.reset();
    });
  }

  function make(event) {
    event.preventDefault();
    const form = event.target;
    const fields = Object.fromEntries(new FormData(form));
    change(async () => {
      made = await send("POST", "tokens", fields);
      form.reset();
    });
  }

  /** What can't be undone is asked twice, in its place. */
  const twice = (key, label, sure, work, also = nothing) => asked === key
    ? html`${also}<button @click=${() => change(work)}>${sure}</button> <button @click=${() => { asked = null; draw(); }}>No</button>`
    : html`<button aria-label=${`${label} ${key.slice(key.indexOf(" ") + 1)}`} @click=${() => { asked = key; revoking = true; draw(); }}>${label}</button>`;

  const remove = (user) => async () => { gone = await send("DELETE", `users/${encodeURIComponent(user.name)}${user.tokens && revoking ? "?revoke_tokens=true" : ""}`); };
  const theirs = (user) => user.tokens
    ? html`<label class="check"><input type="checkbox" .checked=${live(revoking)} @change=${(event) => { revoking = event.target.checked; }}>Also revoke ${user.tokens === 1 ? "the token that it made" : `the ${user.tokens} tokens that it made`}</label> ` : nothing;
  const went = () => html`<p class="note" role="status">${gone.name} is gone${gone.tokens.length === 0 ? "." : html`; ${gone.tokens.length === 1 ? "the token" : "the tokens"} <strong>${gone.tokens.map((token) => token.name).join(", ")}</strong> that it made ${gone.tokens.length === 1 ? "is" : "are"} ${gone.tokens[0].revoked_ns === null ? "still good: revoke below what nobody needs." : "revoked."}`}</p>`;

  const person = (user) => html`<tr><th scope="row">${user.name}${user.name === session.me.value?.name ? html` <span class="soft">you</span>` : nothing}</th>
    <td>${user.issuer ? html`${user.role} <span class="soft" title="They sign in there, and it says their role">by ${user.issuer}</span>` : html`<select aria-label=${`Role of ${user.name}`} .value=${live(user.role)} @change=${(event) => change(() => send("PATCH", `users/${encodeURIComponent(user.name)}`, { role: event.target.value }))}>
      ${ROLES.map((role) => html`<option value=${role} ?selected=${role === user.role}>${role}</option>`)}</select>`}</td>
    <td title=${format.at(user.created_ns)}>${format.when(user.created_ns)}</td>
    <td title=${user.login_ns === null ? "never" : format.at(user.login_ns)}>${user.login_ns === null ? "never" : format.when(user.login_ns)}</td>
    <td class="number">${user.sessions}</td>
    <td>${twice(`user ${user.name}`, "Remove", `Remove ${user.name}`, remove(user), theirs(user))}</td></tr>`;

  const program = (token) => html`<tr><th scope="row">${token.name}</th><td>${token.role}</td><td>${token.created_by}</td>
    <td title=${format.at(token.expires_ns)}>${format.at(token.expires_ns)}</td>
    <td title=${token.used_ns === null ? "never" : format.at(token.used_ns)}>${token.used_ns === null ? "never" : format.when(token.used_ns)}</td>
    <td>${token.revoked_ns !== null ? html`<span class="soft">revoked</span>` : twice(`token ${token.name}`, "Revoke", `Revoke ${token.name}`, () => send("DELETE", `tokens/${token.id}`))}</td></tr>`;

  const roleField = () => html`<label>Role<select name="role">${ROLES.map((role) => html`<option>${role}</option>`)}</select></label>`;

  function draw() {
    render(html`<h1>Accounts</h1><p class="lead">A viewer looks, an operator also answers alerts, an admin does everything. A change counts at once, also for who is logged in.</p>
      ${failure(error)}${gone ? went() : nothing}
      <div class="scroll" role="group" tabindex="0" aria-label="People"><table><caption>People</caption>
        <thead><tr><th scope="col">Name</th><th scope="col">Role</th><th scope="col">Since</th><th scope="col">Last login</th><th scope="col" class="number">Browsers</th><th scope="col">Remove</th></tr></thead>
        <tbody>${repeat(users, (user) => user.name, person)}</tbody></table></div>
      <form class="bar" aria-label="New account" @submit=${add}>
        <label>Name<input name="name" autocomplete="off" autocapitalize="none" spellcheck="false" maxlength="64" required></label>
        ${roleField()}
        <label>Password<input name="password" type="password" autocomplete="new-password" minlength="10" required></label>
        <button>Add the account</button></form>
      <h2>Tokens of programs</h2>
      ${made ? html`<p class="note" role="status">The token <strong>${made.name}</strong> is shown only now: <code>${made.token}</code></p>` : nothing}
      <div class="scroll" role="group" tabindex="0" aria-label="Tokens"><table><caption>Tokens</caption>
        <thead><tr><th scope="col">Name</th><th scope="col">Role</th><th scope="col">Made by</th><th scope="col">Until</th><th scope="col">Last used</th><th scope="col">Revoke</th></tr></thead>
        <tbody>${repeat(tokens, (token) => token.id, program)}</tbody></table></div>
      <form class="bar" aria-label="New token" @submit=${make}>
        <label>For what<input name="name" autocomplete="off" maxlength="64" required></label>
        ${roleField()}
        <label>Holds for<select name="expires">${SPANS.map(([span, text]) => html`<option value=${span} ?selected=${span === "90d"}>${text}</option>`)}</select></label>
        <button>Make the token</button></form>`, place);
  }

  load();
  return () => { closed = true; };
}
