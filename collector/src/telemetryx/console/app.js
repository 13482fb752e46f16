// The frame of the console: header, routes, theme, login. A page is a module with `title` and `open(place)` → close().
import { effect } from "./vendor/signals-core-1.14.5/dist/signals-core.mjs";
import { html, nothing, render } from "./vendor/lit-html-3.3.3/lit-html.js";
import { ApiError, get, login } from "./api.js";
import * as live from "./live.js";
import { go } from "./url.js";
import * as agent from "./pages/agent.js";
import * as alerts from "./pages/alerts.js";
import * as device from "./pages/device.js";
import * as events from "./pages/events.js";
import * as fleet from "./pages/fleet.js";

const PAGES = { "/": fleet, "/agent": agent, "/device": device, "/events": events, "/alerts": alerts };
const NAV = [["/", "Fleet"], ["/events", "Events"], ["/alerts", "Alerts"]];
const LINK = { live: "● live", connecting: "◌ connecting", lost: "○ connection lost, trying again" };
const main = document.getElementById("main");
let close = null;
let shownPath = null;

function header() {
  render(html`
    <a class="name" href="/"><img src="/icon.svg" width="24" height="24" alt="">TelemetryX</a>
    <nav aria-label="Pages">${NAV.map(([path, text]) => html`<a href=${path} aria-current=${path === location.pathname ? "page" : nothing}>${text}</a>`)}</nav>
    <div class="right"><span title="The live stream of this page">${LINK[live.link.value]}</span>
      <button @click=${switchTheme}>${dark() ? "Light" : "Dark"}</button></div>`, document.getElementById("top"));
}

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

/** Shows the page of the address. A page that stays the same is told of its new parameters instead. */
function route() {
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
addEventListener("popstate", route);
addEventListener("telemetryx:navigate", route);
document.documentElement.dataset.theme = localStorage.getItem("theme") ?? "";
if (!document.documentElement.dataset.theme) delete document.documentElement.dataset.theme;
effect(() => {
  live.link.value;
  header();
});

/** Asks for a token where the collector wants one. */
async function start() {
  try {
    await get("status");
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) {
      askToken();
      return;
    }
  }
  route();
}

function askToken(message = "") {
  document.title = "Sign in · TelemetryX";
  render(html`<h1>Sign in</h1><p class="lead">This collector wants a token: a line of its token file, made by <code>telemetryx token new</code>.</p>
    <form class="bar" @submit=${async (event) => {
      event.preventDefault();
      try {
        await login(new FormData(event.target).get("token"));
        render(nothing, main);
        route();
      } catch (error) {
        askToken(error.message);
      }
    }}><label>Token<input name="token" type="password" autocomplete="current-password" required autofocus></label><button>Sign in</button></form>
    ${message ? html`<p class="note bad" role="alert">${message}</p>` : nothing}`, main);
}

start();
