// The frame of the console: header, routes, theme. A page is a module with `title` and `open(place)` → close().
import { effect } from "./vendor/signals-core-1.14.5/dist/signals-core.mjs";
import { html, nothing, render } from "./vendor/lit-html-3.3.3/lit-html.js";
import { ApiError } from "./api.js";
import * as live from "./live.js";
import * as session from "./session.js";
import { signIn } from "./signin.js";
import { go } from "./url.js";
import * as account from "./pages/account.js";
import * as accounts from "./pages/accounts.js";
import * as agent from "./pages/agent.js";
import * as alerts from "./pages/alerts.js";
import * as audit from "./pages/audit.js";
import * as device from "./pages/device.js";
import * as enrolment from "./pages/enrolment.js";
import * as events from "./pages/events.js";
import * as fleet from "./pages/fleet.js";

const PAGES = { "/": fleet, "/agent": agent, "/device": device, "/events": events, "/alerts": alerts, "/enrolment": enrolment, "/accounts": accounts, "/audit": audit, "/account": account };
const NAV = [["/", "Fleet"], ["/events", "Events"], ["/alerts", "Alerts"]];
const OPERATORS = [["/enrolment", "Enrolment"]];
/** Of no use where the collector knows nobody. */
const ADMINS = [["/accounts", "Accounts"], ["/audit", "Audit"]];
const NEEDS = { "/enrolment": "operator", "/accounts": "admin", "/audit": "admin" };
const WORDS = { operator: "operators and admins", admin: "admins" };
const LINK = { live: "● live", connecting: "◌ connecting", lost: "○ connection lost, trying again" };
const main = document.getElementById("main");
let close = null;
let shownPath = null;
/** While somebody has to say who they are, no page is shown, whatever the address. */
let asking = false;

function header() {
  render(html`
    <a class="name" href="/"><img src="/icon.svg" width="24" height="24" alt="">TelemetryX</a>
    <nav aria-label="Pages">${asking ? nothing : links().map(([path, text]) => html`<a href=${path} aria-current=${path === location.pathname ? "page" : nothing}>${text}</a>`)}</nav>
    <div class="right">${live.link.value ? html`<span title="The live stream of this page">${LINK[live.link.value]}</span>` : nothing}
      ${session.known() ? html`${session.me.value.account ? html`<a href="/account" title="Your account">${session.me.value.name}</a>` : session.me.value.name} <span title="What you may do">${session.me.value.role}</span>
        ${session.me.value.via === "session" ? html`<button @click=${leave}>Log out</button>` : nothing}` : nothing}
      <button @click=${switchTheme}>${dark() ? "Light" : "Dark"}</button></div>`, document.getElementById("top"));
}

const links = () => [...NAV, ...(session.can("operator") ? OPERATORS : []), ...(session.known() && session.can("admin") ? ADMINS : [])];

function dark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function switchTheme() {
  document.documentElement.dataset.theme = dark() ? "light" : "dark";
  localStorage.setItem("theme", document.documentElement.dataset.theme);
  header();
  dispatchEvent(new Event("telemetryx:theme"));
}

async function leave() {
  const elsewhere = await session.logout().catch(() => null);
  if (elsewhere) {
    location.assign(elsewhere);
    return;
  }
  // Who comes next begins at the beginning.
  history.replaceState(null, "", "/");
  askWho();
}

/** Shows the page of the address. A page that stays the same is told of its new parameters instead. */
function route() {
  if (asking) {
    askWho();
    return;
  }
  const page = PAGES[location.pathname];
  header();
  if (page && location.pathname === shownPath && close?.update) {
    close.update();
    return;
  }
  close?.();
  close = null;
  shownPath = location.pathname;
  render(nothing, main);
  if (!page) {
    document.title = "Not found · TelemetryX";
    render(html`<h1>There is no such page</h1><p><a href="/">Fleet</a></p>`, main);
    return;
  }
  document.title = `${page.title} · TelemetryX`;
  const needed = NEEDS[location.pathname];
  if (needed && !session.can(needed)) {
    render(html`<h1>${page.title}</h1><p class="lead">This page is for ${WORDS[needed]}.</p>`, main);
    return;
  }
  close = page.open(main);
}

document.addEventListener("click", (event) => {
  const anchor = event.target.closest("a[href]");
  if (!anchor || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || anchor.target) return;
  const url = new URL(anchor.href);
  if (url.origin !== location.origin || !(url.pathname in PAGES)) return;
  event.preventDefault();
  go(url.pathname + url.search);
  scrollTo(0, 0);
  main.focus({ preventScroll: true });
});
// The part after # changes alone when somebody opens the link to the first account in a tab that is here already. The browser takes
// the focus away then, after we have set it: the page begins anew, as in a tab of its own.
addEventListener("hashchange", () => { if (location.hash) location.reload(); });
addEventListener("popstate", () => { if (!location.hash) route(); });
addEventListener("telemetryx:navigate", route);
document.documentElement.dataset.theme = localStorage.getItem("theme") ?? "";
if (!document.documentElement.dataset.theme) delete document.documentElement.dataset.theme;
effect(() => {
  live.link.value;
  session.me.value;
  header();
});

/** Shows the page, or first asks who is there, where the collector wants to know. */
async function start() {
  try {
    await session.look();
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) {
      askWho();
      return;
    }
  }
  route();
}

function askWho() {
  asking = true;
  close?.();
  close = null;
  shownPath = null;
  session.forget();
  header();
  signIn(main, () => {
    asking = false;
    render(nothing, main);
    route();
  });
}

addEventListener("telemetryx:login", () => { if (session.me.value) askWho(); });
start();
