// One agent: its state and why, what keeps it from its work, remote care, the loss ledger as an equation, its inputs, its devices.
import { html, nothing, render } from "../vendor/lit-html-3.3.3/lit-html.js";
import { get } from "../api.js";
import * as format from "../format.js";
import { Live } from "../live.js";
import { clockMark, failure, stateBadge } from "../parts.js";
import { query } from "../url.js";
import { careOf } from "./care.js";
import { deviceRow } from "./fleet.js";

export const title = "Agent";
const EVERY = 3_000;

export function open(place) {
  let agent = null;
  let error = null;
  let closed = false;
  const care = careOf(query().name ?? "", (again) => (again ? load() : draw()));

  async function load() {
    try {
      agent = await get(`agents/${encodeURIComponent(query().name ?? "")}`);
      await care.load(agent.config);
      error = null;
    } catch (problem) {
      error = problem;
    }
    if (!closed) draw();
  }

  function draw() {
    render(html`<p><a href="/">Fleet</a></p><h1>${query().name}</h1>${failure(error)}${agent ? body(agent, care) : nothing}`, place);
  }

  load();
  const timer = setInterval(() => { if (!document.hidden) load(); }, EVERY);
  const stream = new Live({ agents: true }, () => {});
  const close = () => { closed = true; clearInterval(timer); stream.close(); };
  close.update = load;
  return close;
}

/** What keeps an agent from its work, as it said itself, the worst first: what `telemetryx-agent status` and `top` say too. */
function troubles({ refusing, journal, fold, spool, config, remote }) {
  const said = (what, why) => (why ? [`${what}: ${why}`] : []);
  return [
    ...said("readings are refused", refusing && `${refusing.why}; ${refusing.remedy}`),
    ...said("the journal acknowledges nothing", journal?.poisoned),
    ...(spool?.withheld ? said("the spool waits for a file of it", spool.withheld.why) : [...said("rows can't be spooled", fold?.blocked),
      ...(spool?.trouble === fold?.blocked ? [] : said("the spool can't write", spool?.trouble))]),
    ...(spool?.trouble ? [] : said("little space", spool?.floor)),
    ...said("the fold's checkpoint can't be written", fold?.checkpoint),
    ...said("the changed configuration isn't in force", config?.refused?.why),
    ...(config?.trouble ?? []),
    ...said("of what was pushed", remote?.trouble),
  ];
}

function body(agent, care) {
  const status = agent.status ?? {};
  const trouble = troubles(status);
  return html`
    <p>${stateBadge(agent.state)} <span class="soft">${[`version ${agent.version}`, ...Object.entries(agent.labels).map(([name, value]) => `${name} ${value}`)].join(", ")}</span></p>
    ${trouble.length ? html`<div class="note bad" role="group" aria-label="Trouble"><p>Trouble, as the agent said last:</p><ul>${trouble.map((one) => html`<li>${one}</li>`)}</ul></div>` : nothing}
    <dl class="facts">
      <dt>Last seen</dt><dd>${format.ago(agent.last_seen_ns)} <span class="soft">${format.at(agent.last_seen_ns)}</span></dd>
      <dt>Last event</dt><dd>${format.ago(agent.last_event_ns)}${agent.last_event_ns ? html` <span class="soft">${format.at(agent.last_event_ns)}</span>` : nothing}</dd>
      <dt>Backlog</dt><dd>${agent.backlog_batches ? `${format.bytes(agent.backlog_bytes)} in ${format.number(agent.backlog_batches)} ${agent.backlog_batches === 1 ? "batch" : "batches"}, oldest ${format.ago(agent.oldest_ns)}` : "nothing waits"}</dd>
      <dt>Clock skew</dt><dd>${clockMark(agent)}</dd>
      ${agent.quarantined ? html`<dt>Kept apart</dt><dd><span class="state busy" data-icon="!">${format.number(agent.quarantined)} ${agent.quarantined === 1 ? "batch" : "batches"}</span> <span class="soft">with times far ahead of the collector's clock; <code>telemetryx quarantine ls</code> lists them</span></dd>` : nothing}
      <dt>Readings/s</dt><dd>${format.number(agent.rate)}</dd>
    </dl>
    ${care.draw(agent.config)}
    <h2>Loss ledger</h2>
    <p>Balance ${format.number(agent.balance)} <span class="soft">${agent.balance === 0 ? "every reading is accounted for" : "received + derived is not what the other terms of the first equation add up to"}</span></p>
    <div class="scroll" role="group" tabindex="0" aria-label="Loss ledger"><table><caption>received + derived = rejected + deduplicated + reduced + shipped; shipped = stored + expired + overflowed + damaged + refused + in flight</caption>
      <thead><tr><th scope="col">Cause</th><th scope="col" class="number">Readings</th><th scope="col">From</th><th scope="col">To</th></tr></thead>
      <tbody>${agent.loss.map((row) => html`<tr><th scope="row">${row.cause.replaceAll("_", " ")}</th><td class="number">${format.number(row.count)}</td><td>${row.first_ns ? format.at(row.first_ns) : "–"}</td><td>${row.last_ns ? format.at(row.last_ns) : "–"}</td></tr>`)}</tbody></table></div>
    ${status.spool?.damage?.length ? html`<h2>Damage</h2><div class="scroll" role="group" tabindex="0" aria-label="Damage"><table><caption>As the agent said last; it may be more than the ledger can count</caption>
      <thead><tr><th scope="col">What</th><th scope="col">Not before</th><th scope="col">Not after</th></tr></thead>
      <tbody>${status.spool.damage.map((damage) => html`<tr><td>${damage.text}</td><td>${damage.from_ns ? format.at(damage.from_ns) : "–"}</td><td>${damage.to_ns ? format.at(damage.to_ns) : "–"}</td></tr>`)}</tbody></table></div>` : nothing}
    ${status.inputs ? html`<h2>Inputs</h2><div class="scroll" role="group" tabindex="0" aria-label="Inputs"><table><caption>As the agent said last</caption>
      <thead><tr><th scope="col">Input</th><th scope="col" class="number">Received</th><th scope="col" class="number">Readings/s</th><th scope="col">Refused</th><th scope="col">Problem</th></tr></thead>
      <tbody>${status.inputs.map((input) => html`<tr><th scope="row">${input.name}</th><td class="number">${format.number(input.received)}</td><td class="number">${format.number(Math.round(input.rate * 10) / 10)}</td>
        <td>${(input.causes ?? []).filter(([cause]) => cause !== "received").map(([cause, n]) => `${cause.replaceAll("_", " ")} ${n}`).join(", ") || "none"}</td><td>${input.error ?? "–"}</td></tr>`)}</tbody></table></div>` : nothing}
    <h2>Devices</h2>
    <div class="scroll" role="group" tabindex="0" aria-label="Devices"><table><caption>Devices behind this agent</caption><thead><tr><th scope="col">Device</th><th scope="col">Site</th><th scope="col">Agent</th><th scope="col" class="number">Series</th><th scope="col">Last event</th></tr></thead>
      <tbody>${agent.devices.map(deviceRow)}</tbody></table></div>`;
}
