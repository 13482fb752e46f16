// Signing in: with an account or a token, or at a provider; and the first account, by the link that the collector printed.
import { html, nothing, render } from "./vendor/lit-html-3.3.3/lit-html.js";
import { get } from "./api.js";
import { failure } from "./parts.js";
import * as session from "./session.js";

const MIN = 10;
/** Why somebody comes back from a provider and isn't in. */
const FAILED = {
  unreachable: ["the provider doesn't answer as it should", "try again in a moment; the collector's log says what is wrong, and accounts with a password go on working"],
  refused: ["the provider didn't let you in", "try again"],
  expired: ["this sign-in was begun in another browser, or too long ago", "begin it here"],
  token: ["what the provider says can't be believed", "the collector's log says why"],
  role: ["you have no role here", "ask who looks after the provider for one of the groups that have"],
  name: ["your name at the provider can't be that of an account here", "the collector's log says why; an admin can help"],
  wait: ["too many sign-ins came to nothing", "wait a moment, then try again"],
};

/** Shows the form in `place` and calls `done` when somebody is in. */
export function signIn(place, done) {
  const code = firstCode();
  let byToken = false;
  let error = failed();
  let provider = null;
  let busy = false;

  async function enter(event, way) {
    event.preventDefault();
    const fields = new FormData(event.target);
    busy = true;
    draw();
    try {
      await way((name) => fields.get(name));
    } catch (problem) {
      error = problem;
      busy = false;
      draw();
      return;
    }
    // The code is used up: it needn't stand in the address and the history.
    if (code !== null) history.replaceState(null, "", "/");
    done();
  }

  const first = () => html`<h1>The first account</h1><p class="lead">It is an admin's: it makes the others. The password has at least ${MIN} characters; a sentence of four words is good.</p>
    <form class="bar" @submit=${(event) => enter(event, (field) => session.first(code, field("name"), field("password")))}>
      <label>Name<input name="name" autocomplete="username" autocapitalize="none" spellcheck="false" maxlength="64" required autofocus></label>
      <label>Password<input name="password" type="password" autocomplete="new-password" minlength=${MIN} required></label>
      <button ?disabled=${busy}>Make it</button></form>`;
  const account = () => html`<form class="bar" @submit=${(event) => enter(event, (field) => session.login({ user: field("user"), password: field("password") }))}>
      <label>User<input name="user" autocomplete="username" autocapitalize="none" spellcheck="false" required autofocus></label>
      <label>Password<input name="password" type="password" autocomplete="current-password" required></label>
      <button ?disabled=${busy}>Sign in</button></form>`;
  const token = () => html`<form class="bar" @submit=${(event) => enter(event, (field) => session.login({ token: field("token") }))}>
      <label>Token<input name="token" type="password" autocomplete="off" required autofocus></label>
      <button ?disabled=${busy}>Sign in</button></form>`;

  function draw() {
    document.title = "Sign in · TelemetryX";
    render(html`${code !== null ? first() : html`<h1>Sign in</h1>
      <p class="lead">${byToken ? html`With a token: made by <code>telemetryx token create</code>, or a line of the collector's token file.` : html`With an account; an admin makes one, or <code>telemetryx user add</code> on the collector's machine.`}</p>
      ${provider === null || byToken ? nothing : html`<p><a class="button" href="/api/v1/oidc/login">Sign in with ${provider}</a></p>`}
      ${byToken ? token() : account()}
      <p><button @click=${() => { byToken = !byToken; error = null; draw(); focus(); }}>${byToken ? "Use an account" : "Use a token"}</button></p>`}
      ${error ? failure(error) : nothing}`, place);
  }

  const focus = () => place.querySelector("input")?.focus();
  render(nothing, place);
  draw();
  focus();
  // The page works without it: who has a password needn't wait.
  get("login").then((ways) => { provider = ways.provider; if (place.querySelector("form")) draw(); }, () => {});
}

/** `failed` of #/signin?failed=…, as an error; it goes from the address, so that it isn't shown again. */
function failed() {
  const [path, query] = location.hash.slice(1).split("?");
  if (path !== "/signin") return null;
  const why = new URLSearchParams(query).get("failed");
  const said = Object.hasOwn(FAILED, why) ? FAILED[why] : null;
  history.replaceState(null, "", "/");
  return said ? { message: said[0], hint: said[1] } : null;
}

/** `code` of #/first?code=…; the part after # is never sent to a server on the way. */
function firstCode() {
  const [path, query] = location.hash.slice(1).split("?");
  return path === "/first" ? new URLSearchParams(query).get("code") : null;
}
