// The fleet: a sentence, counts that filter, the agents (sorted, filtered and paged by the server), and their devices.
import { html, render } from "../vendor/lit-html-3.3.3/lit-html.js";
import { repeat } from "../vendor/lit-html-3.3.3/directives/repeat.js";
import { get } from "../api.js";
import * as format from "../format.js";
import { Live } from "../live.js";
import { FIRST, clockMark, failure, filterField, pager, sortHeading, stateBadge } from "../parts.js";
import { go, link, query, withQuery } from "../url.js";

export const title = "Fleet";
const LIMIT = 50;
const EVERY = 5_000;

export function open(place) {
  let fleet = { agents: [], total: 0, skipped: 0, counts: { live: 0, catching_up: 0, silent: 0, revoked: 0 } };
  let devices = { devices: [], total: 0, skipped: 0 };
  let alerts = [];
  let error = null;
  let loaded = false;
  let request = null;

  async function load() {
    request?.abort();
    request = new AbortController();
    const { filter, state, sort, order, offset, after, before, dfilter, dafter, dbefore } = query();
    try {
      [fleet, devices, { alerts }] = await Promise.all([
        get("agents", { filter, state, sort, order, offset, after, before, limit: LIMIT }, request.signal),
        get("devices", { filter: dfilter, after: dafter, before: dbefore, limit: LIMIT }, request.signal),
        get("alerts", { state: "open", limit: 100 }, request.signal),
      ]);
      error = null;
      loaded = true;
    } catch (problem) {
      if (problem.name === "AbortError") return;
      error = problem;
    }
    draw();
  }

  function sentence() {
    const { live, catching_up: busy, silent, revoked } = fleet.counts;
    const all = live + busy + silent;
    if (!loaded) return "Loading.";
    if (all + revoked === 0) return "No agent has connected yet. Start one with: telemetryx-agent run";
    const out = revoked ? ` ${revoked} more ${revoked === 1 ? "was" : "were"} revoked.` : "";
    return `${live} of ${all} agents live, ${busy} catching up, ${silent} silent.${out}`;
  }

  function alarm() {
    const firing = alerts.filter((alert) => alert.state === "firing").length;
    if (firing === 0) return "No alert is firing.";
    return html`<strong class="state bad" data-icon=${format.state("firing")[0]}>${firing} ${firing === 1 ? "alert is" : "alerts are"} firing.</strong>`;
  }

  function draw() {
    const { state = "", sort = "name", order = "asc" } = query();
    const count = (value, text, number) => html`<button aria-pressed=${state === value} @click=${() => go(withQuery({ state: state === value ? "" : value, ...FIRST }))}>${text} ${number}</button>`;
    render(html`
      <h1>Fleet</h1><p class="lead">${sentence()} ${loaded ? alarm() : ""} ${alerts.length ? html`<a href="/alerts">Open alerts</a>` : ""}</p>
      ${failure(error)}
      <div class="bar" role="group" aria-label="Filter agents">
        ${count("live", "● live", fleet.counts.live)} ${count("catching_up", "◐ catching up", fleet.counts.catching_up)} ${count("silent", "○ silent", fleet.counts.silent)}
        ${fleet.counts.revoked || state === "revoked" ? count("revoked", "✕ revoked", fleet.counts.revoked) : ""}
        ${filterField("Find an agent", "filter", "name, site or label")}
      </div>
      <div class="scroll" role="group" tabindex="0" aria-label="Agents"><table><caption>Agents</caption><thead><tr>
        ${sortHeading("Agent", "name", sort, order)}<th scope="col">State</th>
        ${sortHeading("Last seen", "last_seen", sort, order)}${sortHeading("Last event", "last_event", sort, order)}
        ${sortHeading("Backlog", "backlog", sort, order, true)}${sortHeading("Clock skew", "skew", sort, order, true)}
        ${sortHeading("Readings/s", "rate", sort, order, true)}<th scope="col" class="number">Series</th><th scope="col">Version</th></tr></thead>
        <tbody>${repeat(fleet.agents, (row) => row.name, agentRow)}</tbody></table></div>
      ${loaded && fleet.agents.length === 0 ? html`<p class="empty">${query().filter || state ? "No agent matches." : "No agent has connected yet."}</p>` : ""}
      ${pager(sort === "name" ? fleet : byRank(fleet), fleet.agents.length, LIMIT, "Pages of agents")}
      <h2>Devices</h2>
      <div class="bar">${filterField("Find a device", "dfilter", "device or site")}</div>
      <div class="scroll" role="group" tabindex="0" aria-label="Devices"><table><caption>Devices</caption><thead><tr>
        <th scope="col">Device</th><th scope="col">Site</th><th scope="col">Agent</th><th scope="col" class="number">Series</th><th scope="col">Last event</th></tr></thead>
        <tbody>${repeat(devices.devices, (row) => `${row.agent}\n${row.site}\n${row.device}`, deviceRow)}</tbody></table></div>
      ${loaded && devices.devices.length === 0 ? html`<p class="empty">${query().dfilter ? "No device matches." : "No device has reported yet."}</p>` : ""}
      ${pager(devices, devices.devices.length, LIMIT, "Pages of devices", { after: "dafter", before: "dbefore" })}
    `, place);
  }

  load();
  // Changes of the fleet arrive at once; the page shown is asked for again, since the server filters and sorts it.
  let soon = null;
  const stream = new Live({ agents: true, alerts: true }, (message) => {
    if (message.type !== "agents" && message.type !== "alert") return;
    soon ??= setTimeout(() => { soon = null; if (!document.hidden) load(); }, 900);
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

/** Pages of a list that is loaded again every few seconds and sorted by what changes: by rank. Behind a place there would soon be nobody, since whoever reports moves away. */
function byRank(answer) {
  return { ...answer, next: null, previous: null };
}

function agentRow(row) {
  return html`<tr><th scope="row"><a href=${link("/agent", { name: row.name })}>${row.name}</a></th>
    <td>${stateBadge(row.state)}</td>
    <td title=${format.at(row.last_seen_ns)}>${format.ago(row.last_seen_ns)}</td>
    <td title=${format.at(row.last_event_ns)}>${format.ago(row.last_event_ns)}</td>
    <td class="number">${row.backlog_batches ? `${format.bytes(row.backlog_bytes)}` : "–"}</td>
    <td class="number">${clockMark(row)}</td>
    <td class="number">${format.number(Math.round(row.rate * 10) / 10)}</td><td class="number">${row.series}</td><td>${row.version}</td></tr>`;
}

export function deviceRow(row) {
  return html`<tr><th scope="row"><a href=${link("/device", { agent: row.agent, site: row.site, device: row.device })}>${row.device || "(no device)"}</a></th>
    <td>${row.site || "–"}</td><td><a href=${link("/agent", { name: row.agent })}>${row.agent}</a></td><td class="number">${row.series}</td>
    <td title=${format.at(row.last_event_ns)}>${format.ago(row.last_event_ns)}</td></tr>`;
}
