// One device: every metric as a live chart with a table view. History comes by query_range, what follows by WebSocket.
import { html, render } from "../vendor/lit-html-3.3.3/lit-html.js";
import { repeat } from "../vendor/lit-html-3.3.3/directives/repeat.js";
import { get } from "../api.js";
import { Chart } from "../chart.js";
import * as format from "../format.js";
import { Live } from "../live.js";
import { choiceField, failure, filterField, stateBadge } from "../parts.js";
import { link, query } from "../url.js";

export const title = "Device";
const RANGES = [["5m", "5 minutes", 300], ["15m", "15 minutes", 900], ["1h", "1 hour", 3600], ["6h", "6 hours", 21600], ["1d", "1 day", 86400], ["7d", "7 days", 604800]];
const POINTS = 600;
const MAX_SERIES = 1000;
/** How often new series of the device are looked for. */
const LOOK = 10_000;

export function open(place) {
  let charts = new Map();
  let stream = null;
  let series = [];
  let error = null;
  let truncated = false;
  let shown = "";
  let looked = false;
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) show(entry.target);
  }, { rootMargin: "400px" });

  const range = () => RANGES.find(([name]) => name === (query().range ?? "15m")) ?? RANGES[1];

  async function look() {
    const { agent, site, device } = query();
    try {
      const answer = await get("series", { agent, site, device, limit: MAX_SERIES });
      // Without these labels the device is the one that has none.
      series = answer.series.filter((one) => (one.labels.device ?? "") === (device ?? "") && (one.labels.site ?? "") === (site ?? ""));
      truncated = answer.total > answer.series.length;
      looked = true;
      error = null;
    } catch (problem) {
      error = problem;
    }
    arrange();
  }

  function wanted() {
    const filter = (query().metric ?? "").toLowerCase();
    const byMetric = new Map();
    for (const one of series) {
      if (filter && !one.name.toLowerCase().includes(filter)) continue;
      if (!byMetric.has(one.name)) byMetric.set(one.name, []);
      byMetric.get(one.name).push(one);
    }
    // The score is about all the others, so it stands before them.
    const rank = (name) => (name.startsWith("telemetryx.") ? 0 : 1);
    return new Map([...byMetric].sort(([a], [b]) => rank(a) - rank(b) || a.localeCompare(b)));
  }

  /** Makes charts for what is wanted and lets go of the others. */
  function arrange() {
    const metrics = wanted();
    const state = `${range()[0]}|${[...metrics].map(([name, list]) => `${name}:${list.map((one) => one.id)}`).join(";")}`;
    if (state !== shown) {
      shown = state;
      // A metric that is new leaves the others as somebody reads them.
      const before = charts;
      charts = new Map([...metrics].map(([name, list]) => {
        const known = before.get(name);
        return [name, known?.shows(list, range()[2]) ? known : new Chart(name, list, range()[2], known?.table)];
      }));
      for (const [name, chart] of before) if (charts.get(name) !== chart) { seen.unobserve(chart.element); chart.destroy(); }
      draw();
      for (const chart of charts.values()) if (!chart.loading) seen.observe(chart.element);
      const ids = [...charts.values()].flatMap((chart) => chart.ids()).slice(0, 1000);
      if (stream) stream.subscribe({ series: ids });
      else stream = new Live({ series: ids }, take);
    } else {
      draw();
    }
  }

  async function show(element) {
    const chart = [...charts.values()].find((one) => one.element === element);
    if (!chart || chart.loading) return;
    chart.loading = true;
    seen.unobserve(element);
    chart.mount();
    await fill(chart);
  }

  async function fill(chart) {
    try {
      const answer = await get("query_range", { series: chart.ids(), start: `-${range()[0]}`, end: "now", max_points: POINTS });
      chart.load(answer.series);
    } catch (problem) {
      error = problem;
      draw();
    }
  }

  function take(message) {
    // What came after a chart's history and before the stream is in neither.
    if (message.type === "resumed" && message.gap) for (const chart of charts.values()) if (chart.loading) fill(chart);
    if (message.type !== "samples") return;
    for (const chart of charts.values()) if (chart.append(message.series)) chart.refresh();
  }

  function draw() {
    const { agent, site, device } = query();
    const newest = series.reduce((most, one) => Math.max(most, one.latest?.time_ns ?? 0), 0);
    render(html`
      <p><a href="/">Fleet</a></p><h1>${device || "(no device)"}${site ? html` <span class="soft">at ${site}</span>` : ""}</h1>
      <p class="lead">${series.length} series through agent <a href=${link("/agent", { name: agent ?? "" })}>${agent}</a>, newest reading ${format.ago(newest)}. Times in ${format.zone}.</p>
      ${failure(error)}
      ${truncated ? html`<p class="note">Only the first ${MAX_SERIES} series are shown: filter by metric.</p>` : ""}
      <div class="bar">${choiceField("Range", "range", RANGES.map(([name, text]) => [name, text]), "15m")}${filterField("Find a metric", "metric", "part of its name")}</div>
      ${series.length === 0 && looked && !error ? html`<p class="empty">Nothing has come from this device.</p>` : ""}
      ${series.length > 0 && charts.size === 0 ? html`<p class="empty">No metric matches.</p>` : ""}
      <div class="charts">${repeat(charts, ([name]) => name, ([, chart]) => chart.element)}</div>`, place);
  }

  look();
  const timer = setInterval(() => { if (!document.hidden) look(); }, LOOK);
  const theme = () => { for (const chart of charts.values()) if (chart.loading) { chart.draw(); chart.mount(); } };
  const visible = () => { if (!document.hidden) for (const chart of charts.values()) chart.refresh(); };
  addEventListener("telemetryx:theme", theme);
  document.addEventListener("visibilitychange", visible);
  const close = () => {
    clearInterval(timer);
    removeEventListener("telemetryx:theme", theme);
    document.removeEventListener("visibilitychange", visible);
    seen.disconnect();
    stream?.close();
    for (const chart of charts.values()) chart.destroy();
  };
  let last = location.search;
  close.update = () => {
    const before = new URLSearchParams(last), now = new URLSearchParams(location.search);
    last = location.search;
    const same = ["agent", "site", "device"].every((name) => before.get(name) === now.get(name));
    if (same) arrange();
    else { series = []; look(); }
  };
  return close;
}
