// Events: newest first, filtered by source and severity, searched by text; new ones appear as they come.
import { html, render } from "../vendor/lit-html-3.3.3/lit-html.js";
import { repeat } from "../vendor/lit-html-3.3.3/directives/repeat.js";
import { get } from "../api.js";
import * as format from "../format.js";
import { Live } from "../live.js";
import { choiceField, failure, filterField, stateBadge } from "../parts.js";
import { query } from "../url.js";

export const title = "Events";
const LIMIT = 100;
const SEVERITIES = [["", "any"], ["debug", "debug and above"], ["info", "info and above"], ["warn", "warn and above"], ["error", "error and above"], ["fatal", "fatal"]];

export function open(place) {
  let events = [];
  let next = null;
  let error = null;
  let loading = false;
  let request = null;

  async function load(before) {
    request?.abort();
    request = new AbortController();
    loading = true;
    const { source, severity, q, agent } = query();
    try {
      const answer = await get("events", { source, severity, q, agent, before, limit: LIMIT }, request.signal);
      events = before ? [...events, ...answer.events] : answer.events;
      next = answer.next;
      error = null;
    } catch (problem) {
      if (problem.name === "AbortError") return;
      error = problem;
    }
    loading = false;
    draw();
  }

  function draw() {
    const { source, severity, q, agent } = query();
    render(html`
      <h1>Events</h1><p class="lead">What applications and devices reported, newest first. Times in ${format.zone}.</p>
      ${failure(error)}
      <div class="bar">${filterField("Source", "source", "exact name")}${choiceField("Severity", "severity", SEVERITIES)}${filterField("Text", "q", "words in the text")}</div>
      <div class="scroll" role="group" tabindex="0" aria-label="Events"><table><caption>${events.length} ${events.length === 1 ? "event" : "events"}${next ? ", more below" : ""}</caption>
        <thead><tr><th scope="col">Time</th><th scope="col">Severity</th><th scope="col">Source</th><th scope="col">Text</th><th scope="col">Agent</th></tr></thead>
        <tbody>${repeat(events, (event) => event.id, row)}</tbody></table></div>
      ${events.length === 0 && !loading && !error ? html`<p class="empty">${source || severity || q || agent ? "No event matches." : html`No event has come yet. An application sends one to its agent: <code>curl -d '{"logger":"app","message":"hello"}' http://127.0.0.1:8186/v1/events</code>`}</p>` : ""}
      ${next ? html`<div class="pager"><button ?disabled=${loading} @click=${() => load(next)}>Older events</button></div>` : ""}`, place);
  }

  load();
  let soon = null;
  // A new event may or may not meet the filter: the server decides, asked at most once a second.
  const stream = new Live({ events: true }, (message) => {
    if (events.length > LIMIT) return;
    // What came after the first answer and before the stream is in neither.
    if (message.type === "resumed" && message.gap) load();
    if (message.type !== "event") return;
    soon ??= setTimeout(() => { soon = null; if (!document.hidden) load(); }, 1000);
  });
  const close = () => {
    request?.abort();
    clearTimeout(soon);
    stream.close();
  };
  close.update = () => load();
  return close;
}

function row(event) {
  const attributes = Object.entries(event.attributes);
  return html`<tr><td>${format.at(event.time_ns)}</td><td>${stateBadge(event.severity)}</td><td>${event.source}</td>
    <td class="wide">${event.body}${attributes.length ? html`<div class="soft">${attributes.map(([name, value]) => `${name}=${value}`).join("  ")}</div>` : ""}</td><td>${event.agent}</td></tr>`;
}
