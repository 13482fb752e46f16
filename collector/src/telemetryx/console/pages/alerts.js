// Alerts: open ones are always listed, history behind a choice; each says in words what, where, since when and how it was found.
import { html, render } from "../vendor/lit-html-3.3.3/lit-html.js";
import { repeat } from "../vendor/lit-html-3.3.3/directives/repeat.js";
import { get, send } from "../api.js";
import * as format from "../format.js";
import { Live } from "../live.js";
import { can, known } from "../session.js";
import { choiceField, failure, speak, stateBadge } from "../parts.js";
import { link, query } from "../url.js";

export const title = "Alerts";
const STATES = [["open", "open"], ["firing", "firing"], ["resolved", "resolved"], ["all", "all, with history"]];
const NONE = { open: "No alert is open.", firing: "No alert is firing.", resolved: "No alert has resolved yet.", all: "There has been no alert yet." };
/** How often it is asked again without being told: an alert becomes unknown by itself, when nothing comes any more. */
const EVERY = 10_000;

export function open(place) {
  let alerts = [];
  let rules = [];
  let error = null;
  let loaded = false;
  let request = null;

  async function load() {
    request?.abort();
    request = new AbortController();
    const { signal } = request;
    try {
      [{ alerts }, { rules }] = await Promise.all([get("alerts", { state: query().state ?? "open", limit: 500 }, signal), get("rules", {}, signal)]);
      error = null;
      loaded = true;
    } catch (problem) {
      if (problem.name === "AbortError") return;
      error = problem;
    }
    draw();
  }

  /** Takes an alert on, or gives it back; in the name of who is logged in. */
  async function take(alert) {
    try {
      await send(alert.acknowledged ? "DELETE" : "POST", `alerts/${alert.id}/acknowledge`, alert.acknowledged ? undefined : {});
      await load();
    } catch (problem) {
      error = problem;
      draw();
    }
  }

  function draw() {
    render(html`
      <h1>Alerts</h1><p class="lead">Judged in event time: an alert found in late data carries its own time. Nothing resolves because data stopped.</p>
      ${failure(error)}
      <div class="bar">${choiceField("Show", "state", STATES, "open")}</div>
      <div class="scroll" role="group" tabindex="0" aria-label="Alerts"><table><caption>${alerts.length} ${alerts.length === 1 ? "alert" : "alerts"}</caption>
        <thead><tr><th scope="col">State</th><th scope="col">Severity</th><th scope="col">What</th><th scope="col">Where</th><th scope="col" class="number">Value</th><th scope="col">Since</th><th scope="col">Detected</th><th scope="col">Resolved</th></tr></thead>
        <tbody>${repeat(alerts, (alert) => alert.id, (alert) => row(alert, take))}</tbody></table></div>
      ${alerts.length === 0 && loaded ? html`<p class="empty">${NONE[query().state ?? "open"]}</p>` : ""}
      <h2>Rules</h2>
      <div class="scroll" role="group" tabindex="0" aria-label="Rules"><table><caption>What is judged</caption><thead><tr><th scope="col">Rule</th><th scope="col">Condition</th><th scope="col">Severity</th><th scope="col" class="number">Firing</th><th scope="col">Problem</th></tr></thead>
        <tbody>${rules.map((rule) => html`<tr><th scope="row">${rule.name}</th><td class="wide"><code>${rule.expression.replace(`${rule.name}: `, "")}</code></td><td>${rule.severity}</td><td class="number">${rule.firing}</td><td>${rule.error || "–"}</td></tr>`)}</tbody></table></div>`, place);
  }

  load();
  let soon = null;
  const stream = new Live({ alerts: true }, (message) => {
    if (message.type !== "alert" && message.type !== "reopened") return;
    if (message.alert?.state === "firing") speak(`Alert firing: ${message.alert.summary || message.alert.rule}`);
    // A storm of alerts is asked for a few times a second, not once an alert.
    soon ??= setTimeout(() => { soon = null; load(); }, 250);
  });
  const timer = setInterval(() => { if (!document.hidden) load(); }, EVERY);
  const close = () => {
    request?.abort();
    clearTimeout(soon);
    clearInterval(timer);
    stream.close();
  };
  close.update = load;
  return close;
}

/** Who has taken an alert on, and whether its notifications are held back: neither changes what is judged. */
function care({ acknowledged, silenced_by: silences, trace_id: trace }) {
  const { author, comment, at_ns: at } = acknowledged ?? {};
  const taken = acknowledged ? html`<div class="soft" title=${format.at(at)}>Taken on${author ? ` by ${author}` : ""} ${format.when(at)}${comment ? `: ${comment}` : ""}</div>` : "";
  const quiet = silences.length ? html`<div class="soft">Notifications are held back by ${silences.length === 1 ? "silence" : "silences"} ${silences.join(", ")}</div>` : "";
  return html`${taken}${quiet}${traced(trace)}`;
}

/** The id under which the alert's trace is found where spans are exported to; a click copies it. */
function traced(trace) {
  if (!trace) return "";
  const copy = async () => {
    await navigator.clipboard.writeText(trace);
    speak("Trace id copied");
  };
  // Off loopback without TLS a browser gives no clipboard: then it can be selected.
  return html`<div class="soft">Trace <code>${trace}</code>${navigator.clipboard ? html` <button @click=${copy}>Copy trace id</button>` : ""}</div>`;
}

function row(alert, take) {
  const { agent, site, device, __name__: _, ...others } = alert.labels;
  const where = [site, device, agent && !device ? `agent ${agent}` : ""].filter(Boolean).join(" / ");
  const place = device !== undefined && agent ? html`<a href=${link("/device", { agent, site: site ?? "", device })}>${where}</a>` : agent ? html`<a href=${link("/agent", { name: agent })}>${where}</a>` : where;
  return html`<tr><td>${stateBadge(alert.state)}</td><td>${stateBadge(alert.severity)}</td>
    <td class="wide"><strong>${alert.rule}</strong><div>${alert.summary}</div>${Object.keys(others).length ? html`<div class="soft">${Object.entries(others).map(([name, value]) => `${name}=${value}`).join("  ")}</div>` : ""}${care(alert)}${known() && can("operator") ? html`<button @click=${() => take(alert)}>${alert.acknowledged ? "Give it back" : "Take it on"}</button>` : ""}</td>
    <td>${place}</td><td class="number">${format.number(alert.value)}${alert.threshold === null ? "" : html` <span class="soft">limit ${format.number(alert.threshold)}</span>`}</td>
    <td title=${format.at(alert.started_ns)}>${format.when(alert.started_ns)}</td>
    <td title=${format.at(alert.detected_ns)}>${format.when(alert.detected_ns)}${alert.late ? html` <span class="soft">late data</span>` : ""}</td>
    <td title=${alert.resolved_ns ? format.at(alert.resolved_ns) : "not yet"}>${alert.resolved_ns ? format.when(alert.resolved_ns) : "–"}</td></tr>`;
}
