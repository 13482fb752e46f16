// Alerts: open ones are always listed, history behind a choice; each says in words what, where, since when and how it was found.
import { html, render } from "../vendor/lit-html-3.3.3/lit-html.js";
import { repeat } from "../vendor/lit-html-3.3.3/directives/repeat.js";
import { get } from "../api.js";
import * as format from "../format.js";
import { Live } from "../live.js";
import { choiceField, failure, speak, stateBadge } from "../parts.js";
import { link, query } from "../url.js";

export const title = "Alerts";
const STATES = [["open", "open"], ["firing", "firing"], ["resolved", "resolved"], ["all", "all, with history"]];

export function open(place) {
  let alerts = [];
  let rules = [];
  let error = null;

  async function load() {
    try {
      [{ alerts }, { rules }] = await Promise.all([get("alerts", { state: query().state ?? "open", limit: 500 }), get("rules")]);
      error = null;
    } catch (problem) {
      error = problem;
    }
    draw();
  }

  function draw() {
    render(html`
      <h1>Alerts</h1><p class="lead">Judged in event time: an alert found in late data carries its own time. Nothing resolves because data stopped.</p>
      ${failure(error)}
      <div class="bar">${choiceField("Show", "state", STATES, "open")}</div>
      <div class="scroll"><table><caption>${alerts.length} ${alerts.length === 1 ? "alert" : "alerts"}</caption>
        <thead><tr><th scope="col">State</th><th scope="col">Severity</th><th scope="col">What</th><th scope="col">Where</th><th scope="col" class="number">Value</th><th scope="col">Since</th><th scope="col">Detected</th><th scope="col">Resolved</th></tr></thead>
        <tbody>${repeat(alerts, (alert) => alert.id, row)}</tbody></table></div>
      ${alerts.length === 0 ? html`<p>None.</p>` : ""}
      <h2>Rules</h2>
      <div class="scroll"><table><caption>What is judged</caption><thead><tr><th scope="col">Rule</th><th scope="col">Condition</th><th scope="col">Severity</th><th scope="col" class="number">Firing</th><th scope="col">Problem</th></tr></thead>
        <tbody>${rules.map((rule) => html`<tr><th scope="row">${rule.name}</th><td class="wide"><code>${rule.expression}</code></td><td>${rule.severity}</td><td class="number">${rule.firing}</td><td>${rule.error || "–"}</td></tr>`)}</tbody></table></div>`, place);
  }

  load();
  const stream = new Live({ alerts: true }, (message) => {
    if (message.type !== "alert") return;
    if (message.alert.state === "firing") speak(`Alert firing: ${message.alert.summary || message.alert.rule}`);
    load();
  });
  const close = () => stream.close();
  close.update = load;
  return close;
}

function row(alert) {
  const { agent, site, device, ...others } = alert.labels;
  const where = [site, device, agent && !device ? `agent ${agent}` : ""].filter(Boolean).join(" / ");
  const place = device !== undefined && agent ? html`<a href=${link("/device", { agent, site: site ?? "", device })}>${where}</a>` : agent ? html`<a href=${link("/agent", { name: agent })}>${where}</a>` : where;
  return html`<tr><td>${stateBadge(alert.state)}</td><td>${stateBadge(alert.severity)}</td>
    <td class="wide"><strong>${alert.rule}</strong><div>${alert.summary}</div>${Object.keys(others).length ? html`<div class="soft">${Object.entries(others).map(([name, value]) => `${name}=${value}`).join("  ")}</div>` : ""}</td>
    <td>${place}</td><td class="number">${format.number(alert.value)}${alert.threshold === null ? "" : html` <span class="soft">limit ${format.number(alert.threshold)}</span>`}</td>
    <td>${format.at(alert.started_ns)}</td><td>${format.at(alert.detected_ns)}${alert.late ? html` <span class="soft">late data</span>` : ""}</td><td>${alert.resolved_ns ? format.at(alert.resolved_ns) : "–"}</td></tr>`;
}
