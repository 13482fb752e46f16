// A chart of a few lines that also is a table, has a sentence, and can be walked with the arrow keys.
import { html, render } from "./vendor/lit-html-3.3.3/lit-html.js";
import * as format from "./format.js";
import { speak } from "./parts.js";

export const MAX_LINES = 20;
const TABLE_ROWS = 25;
/** Two readings missed in a row are a gap, one is not: in steps of what is usual between two. */
const GAP = 2.5;
const DASHES = [[], [6, 3], [2, 3], [9, 3, 2, 3]];
const color = (index) => getComputedStyle(document.documentElement).getPropertyValue(`--series-${(index % 8) + 1}`).trim();
const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** The points that no line touches, between two gaps: drawn as dots, or nobody would see them. */
function alone(plot, index) {
  const values = plot.data[index];
  const at = [];
  let before = -1;
  for (let i = 0; i < values.length; i++) {
    // undefined is another line's time, null is a gap.
    if (values[i] === undefined) continue;
    if (values[i] !== null) {
      let next = i + 1;
      while (next < values.length && values[next] === undefined) next++;
      if ((before < 0 || values[before] === null) && (next === values.length || values[next] === null)) at.push(i);
    }
    before = i;
  }
  return at;
}

/** Points of one line; x in seconds, y a number or null: a gap, or a reading that is no number, whose word is in `words`. */
class Line {
  constructor(series, name) {
    this.series = series;
    this.name = name;
    this.x = [];
    this.y = [];
    /** From the time of a reading that is NaN or infinite to the word for it: JSON has no numbers for these. */
    this.words = new Map();
  }

  /**
   * Takes history: buckets of time, null where one holds no reading. Buckets may be narrower than the time between two
   * readings, so an empty one says nothing; what is a gap, the distance between readings says. Newer points stay.
   */
  load({ times_ns: timesNs, values, special }) {
    const { x, y, words } = this;
    this.x = [];
    this.y = [];
    this.words = new Map();
    for (let i = 0; i < timesNs.length; i++) this.take(timesNs[i] / 1e9, values[i], special?.values?.[i]);
    for (let i = 0; i < x.length; i++) this.take(x[i], y[i], words.get(x[i]));
  }

  /** Appends newer points. */
  append({ times_ns: timesNs, values, special }) {
    for (let i = 0; i < timesNs.length; i++) this.take(timesNs[i] / 1e9, values[i], special?.values?.[i]);
  }

  /** Adds one point, unless it is an empty bucket: neither a number nor a word for what isn't one. */
  take(x, y, word) {
    if (y === null && !word) return;
    const count = this.x.length;
    this.push(x, y);
    if (word && this.x.length > count) this.words.set(x, word);
  }

  /** Adds one point; where much more time passed than usual between two, a gap is drawn as one. */
  push(x, y) {
    const last = this.x.length - 1;
    if (last >= 0 && x <= this.x[last]) return;
    const usual = this.usual();
    if (usual && x - this.x[last] > GAP * usual) {
      this.x.push(this.x[last] + usual);
      this.y.push(null);
    }
    this.x.push(x);
    this.y.push(y);
  }

  /** The median of the last steps, 0 when there are too few to say. */
  usual() {
    const n = Math.min(20, this.x.length - 1);
    if (n < 3) return 0;
    const steps = [];
    for (let i = this.x.length - n; i < this.x.length; i++) steps.push(this.x[i] - this.x[i - 1]);
    steps.sort((a, b) => a - b);
    return steps[steps.length >> 1];
  }

  trim(from) {
    let drop = 0;
    while (drop < this.x.length && this.x[drop] < from) drop++;
    // One point outside keeps the line touching the edge.
    if (drop > 1) {
      for (const x of this.x.splice(0, drop - 1)) this.words.delete(x);
      this.y.splice(0, drop - 1);
    }
  }

  /** The newest reading as it is written; gaps aren't readings. */
  last(unit) {
    for (let i = this.y.length - 1; i >= 0; i--) {
      if (this.y[i] !== null || this.words.has(this.x[i])) return this.text(this.x[i], this.y[i], unit);
    }
    return format.number(null);
  }

  /** How the value at a time is written: a number, the word for what isn't one, or a dash. */
  text(x, y, unit) {
    return y === null ? this.words.get(x) ?? format.number(null) : format.number(y, unit);
  }
}

export class Chart {
  /** `series` are API rows of one metric; `span` is the width of the view in seconds; `table`: begin as a table. */
  constructor(title, series, span, table = false) {
    this.title = title;
    this.span = span;
    this.of = Chart.names(series);
    this.unit = series[0]?.unit ?? "";
    this.hidden = Math.max(0, series.length - MAX_LINES);
    const shown = series.slice(0, MAX_LINES);
    this.lines = new Map(shown.map((one) => [one.id, new Line(one, format.lineName(one, shown))]));
    this.element = document.createElement("section");
    this.element.className = "card";
    this.table = table;
    this.page = 0;
    this.cursor = null;
    this.loaded = false;
    this.draw();
  }

  static names(series) {
    return series.map((one) => one.id).join();
  }

  /** Whether it is of these series, as wide. */
  shows(series, span) {
    return this.span === span && this.of === Chart.names(series);
  }

  ids() {
    return [...this.lines.keys()];
  }

  load(answerSeries) {
    this.loaded = true;
    for (const one of answerSeries) this.lines.get(one.id)?.load(one);
    this.refresh();
  }

  /** `batch` maps ids to {times_ns, values, special}; true when something of this chart was in it. */
  append(batch) {
    let touched = false;
    for (const [id, line] of this.lines) {
      const points = batch[id];
      if (!points) continue;
      line.append(points);
      touched = true;
    }
    return touched;
  }

  /** Draws what came, once a frame and only while the page is seen. */
  refresh() {
    if (this.scheduled || document.hidden) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      const from = Date.now() / 1000 - this.span;
      for (const line of this.lines.values()) line.trim(from);
      this.data = uPlot.join([...this.lines.values()].map((line) => [line.x, line.y]), [...this.lines.values()].map((line) => line.y.map(() => 2)));
      if (!this.data || this.data.length === 0) this.data = [[], ...[...this.lines.values()].map(() => [])];
      this.draw();
      if (this.plot) {
        this.plot.setData(this.data, false);
        this.plot.setScale("x", { min: from, max: Date.now() / 1000 });
      }
    });
  }

  summary() {
    let min = Infinity, max = -Infinity, count = 0, gaps = 0;
    const words = new Set();
    for (const line of this.lines.values()) {
      for (const word of line.words.values()) words.add(word);
      for (let i = 0; i < line.y.length; i++) {
        const y = line.y[i];
        if (y !== null) { count++; if (y < min) min = y; if (y > max) max = y; }
        else if (!line.words.has(line.x[i])) gaps++;
      }
    }
    const others = [...words].sort().join(", ");
    if (count === 0 && !others && !this.loaded) return "Loading.";
    if (count === 0 && !others) return `No data in the last ${format.span(this.span)}.`;
    const lines = [...this.lines.values()];
    const what = count === 0 ? `nothing but ${others}` : `${format.number(min, this.unit)} to ${format.number(max, this.unit)}${others ? `, and ${others}` : ""}`;
    const last = lines.length === 1 && count > 0 ? `, last ${lines[0].last(this.unit)}` : "";
    return `Last ${format.span(this.span)}: ${what}${last}${gaps ? `, with gaps` : ""}${this.hidden ? `; ${this.hidden} more lines not drawn` : ""}.`;
  }

  draw() {
    const lines = [...this.lines.values()];
    render(html`
      <div class="head"><h3>${this.title}</h3>
        <button aria-pressed=${this.table} @click=${() => { this.table = !this.table; this.page = 0; this.draw(); this.mount(); }}>Table</button></div>
      <p class="summary">${this.summary()}</p>
      ${this.table ? this.tableView(lines) : html`
        <div class="plot" role="img" tabindex="0" aria-label="Chart of ${this.title}. ${this.summary()} Arrow keys walk the points."
          @keydown=${(event) => this.key(event)}></div>
        ${lines.length > 1 ? html`<ul class="legend">${lines.map((line, i) => html`<li>
          <svg width="26" height="8" aria-hidden="true"><line x1="0" y1="4" x2="26" y2="4" stroke=${color(i)} stroke-width="2" stroke-dasharray=${DASHES[(i >> 3) % 4].join(" ")}></line></svg>${line.name}
          <span class="soft">${line.last(this.unit)}</span></li>`)}</ul>` : ""}`}
    `, this.element);
  }

  tableView(lines) {
    const rows = [...(this.data?.[0]?.keys() ?? [])].reverse();
    const pages = Math.max(1, Math.ceil(rows.length / TABLE_ROWS));
    this.page = Math.min(this.page, pages - 1);
    const shown = rows.slice(this.page * TABLE_ROWS, (this.page + 1) * TABLE_ROWS);
    return html`<div class="scroll" role="group" tabindex="0" aria-label="${this.title} as a table"><table><caption>${this.title}, newest first, ${format.zone}</caption>
      <thead><tr><th scope="col">Time</th>${lines.map((line) => html`<th scope="col" class="number">${line.name}</th>`)}</tr></thead>
      <tbody>${shown.map((row) => html`<tr><th scope="row">${format.timeOfDay(this.data[0][row])}</th>
        ${lines.map((line, i) => html`<td class="number">${line.text(this.data[0][row], this.data[i + 1][row] ?? null, this.unit)}</td>`)}</tr>`)}</tbody></table></div>
      <div class="pager"><button ?disabled=${this.page === 0} @click=${() => { this.page--; this.draw(); }}>Newer</button>
        <span>Page ${this.page + 1} of ${pages}</span>
        <button ?disabled=${this.page >= pages - 1} @click=${() => { this.page++; this.draw(); }}>Older</button></div>`;
  }

  /** Puts uPlot into its place; call when the element is in the page, and after a change of theme. */
  mount() {
    this.plot?.destroy();
    this.plot = null;
    const place = this.element.querySelector(".plot");
    if (!place) return;
    const axis = { stroke: token("--soft"), grid: { stroke: token("--grid"), width: 1 }, ticks: { stroke: token("--grid") }, font: "12px system-ui" };
    this.plot = new uPlot({
      width: Math.max(200, place.clientWidth), height: place.clientHeight,
      legend: { show: false }, cursor: { y: false, sync: { key: "telemetryx" } },
      scales: { x: { time: true } },
      axes: [axis, { ...axis, size: 62, values: (_, ticks) => ticks.map((tick) => format.tick(tick, this.unit)) }],
      series: [{}, ...[...this.lines.values()].map((line, i) => ({ label: line.name, stroke: color(i), width: 1.6, dash: DASHES[(i >> 3) % 4], spanGaps: false, points: { show: true, size: 4, fill: color(i), filter: alone } }))],
    }, this.data ?? [[], ...[...this.lines.values()].map(() => [])], place);
    const now = Date.now() / 1000;
    this.plot.setScale("x", { min: now - this.span, max: now });
    this.observer ??= new ResizeObserver(() => {
      const holder = this.element.querySelector(".plot");
      if (holder && this.plot) this.plot.setSize({ width: Math.max(200, holder.clientWidth), height: holder.clientHeight });
    });
    this.observer.disconnect();
    this.observer.observe(place);
  }

  key(event) {
    const count = this.data?.[0]?.length ?? 0;
    const moves = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20, Home: -count, End: count };
    if (!(event.key in moves) || count === 0) return;
    event.preventDefault();
    this.cursor = Math.min(count - 1, Math.max(0, (this.cursor ?? count - 1) + moves[event.key]));
    const x = this.data[0][this.cursor];
    this.plot?.setCursor({ left: this.plot.valToPos(x, "x"), top: 10 });
    const values = [...this.lines.values()].map((line, i) => `${this.lines.size > 1 ? `${line.name} ` : ""}${line.text(x, this.data[i + 1][this.cursor] ?? null, this.unit)}`);
    speak(`${format.timeOfDay(x)}: ${values.join(", ")}`);
  }

  destroy() {
    this.observer?.disconnect();
    this.plot?.destroy();
    this.plot = null;
  }
}
