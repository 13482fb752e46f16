// One's own account: another password, and out of every browser.
import { html, nothing, render } from "../vendor/lit-html-3.3.3/lit-html.js";
import { failure } from "../parts.js";
import * as session from "../session.js";

export const title = "Your account";

export function open(place) {
  let error = null;
  let done = "";

  async function change(event) {
    event.preventDefault();
    const form = event.target;
    const fields = new FormData(form);
    try {
      await session.changePassword(fields.get("old"), fields.get("new"));
      error = null;
      done = "The password is changed; you are logged out everywhere else.";
      form.reset();
    } catch (problem) {
      error = problem;
      done = "";
    }
    draw();
  }

  async function leave() {
    try {
      location.assign((await session.logout(true)) ?? "/");
    } catch (problem) {
      error = problem;
      draw();
    }
  }

  function draw() {
    const { name, role, account, issuer } = session.me.value ?? {};
    render(html`<h1>Your account</h1><p class="lead">${account ? html`${name}, ${role}.` : "You are here with a token: there is no account to change."}</p>
      ${failure(error)}${done ? html`<p class="note" role="status">${done}</p>` : nothing}
      ${account && issuer ? html`<p class="lead">You signed in at ${issuer}, which says what you may do; your password is there.</p>` : nothing}
      ${account && !issuer ? html`<h2>Another password</h2>
      <form class="bar" @submit=${change}>
        <label>Old password<input name="old" type="password" autocomplete="current-password" required></label>
        <label>New password<input name="new" type="password" autocomplete="new-password" minlength="10" required></label>
        <button>Change it</button></form>` : nothing}
      ${account ? html`<h2>Other browsers</h2><p><button @click=${leave}>Log out everywhere</button></p>` : nothing}`, place);
  }

  draw();
  return () => {};
}
