// How times, sizes, numbers and labels are written, in one place.

const NS = 1e6;
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const plain = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 6 });
const whole = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });

export const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;

export const at = (ns) => (ns ? full.format(ns / NS) : "never");
/** The time of today, or date and time. */
export const when = (ns) => (ns && new Date(ns / NS).toDateString() === new Date().toDateString() ? clock.format(ns / NS) : at(ns));
export const timeOfDay = (seconds) => clock.format(seconds * 1000);

/** "12 s ago"; the future is said to be the future. */
export function ago(ns, now = Date.now()) {
  if (!ns) return "never";
  const seconds = (now - ns / NS) / 1000;
  if (seconds < -2) return `${span(-seconds)} ahead`;
  return seconds < 1 ? "now" : `${span(seconds)} ago`;
}

export function span(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds / 60) % 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds / 3600) % 24)} h`;
}

export function bytes(count) {
  let value = count;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (value < 1024 || unit === "GiB") return `${value < 10 && unit !== "B" ? value.toFixed(1) : whole.format(value)} ${unit}`;
    value /= 1024;
  }
}

/** UCUM codes as people write them. */
const UNITS = { Cel: "°C", "1": "", By: "B", "By/s": "B/s", "{operation}": "ops", "{packet}": "packets", "{cpu}": "CPUs", "{process}": "processes", "{thread}": "threads" };
export const unit = (code) => UNITS[code] ?? code.replace(/[{}]/g, "");

export function number(value, code = "") {
  if (value === null || value === undefined) return "–";
  if (code === "By") return bytes(value);
  const text = Math.abs(value) >= 1e15 || (value !== 0 && Math.abs(value) < 1e-4) ? value.toExponential(3) : plain.format(value);
  return unit(code) ? `${text} ${unit(code)}` : text;
}

/** A number on an axis, where there is room for six characters. */
export function tick(value, code) {
  if (code === "By") return bytes(value);
  for (const [factor, prefix] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e5, "k"]]) {
    if (Math.abs(value) >= factor) return `${plain.format(value / (prefix === "k" ? 1e3 : factor))} ${prefix}`;
  }
  return number(value);
}

/** The labels that tell the lines of one chart apart. */
export function lineName(series, among) {
  const differing = Object.entries(series.labels).filter(([name]) => name !== "device" && name !== "site" && among.some((other) => other.labels[name] !== series.labels[name]));
  return differing.map(([name, value]) => (differing.length > 1 ? `${name}=${value}` : value)).join(", ") || series.name;
}

const STATES = {
  live: ["●", "good", "live"],
  catching_up: ["◐", "busy", "catching up"],
  silent: ["○", "off", "silent"],
  firing: ["▲", "bad", "firing"],
  pending: ["△", "busy", "pending"],
  unknown: ["?", "off", "unknown: no data"],
  resolved: ["✓", "good", "resolved"],
  retracted: ["–", "off", "retracted"],
  closed: ["✕", "off", "closed"],
  none: ["·", "off", "none"], unsupported: ["○", "off", "unsupported"], waiting: ["◐", "busy", "waiting"], trial: ["◐", "busy", "on trial"],
  applied: ["✓", "good", "applied"], failed: ["✕", "bad", "failed"], declined: ["–", "off", "declined"],
  active: ["●", "good", "active"], revoked: ["✕", "off", "revoked"], open: ["●", "good", "open"], used: ["–", "off", "used up"], expired: ["○", "off", "expired"],
  asked: ["◐", "busy", "being answered"], done: ["✓", "good", "done"], lapsed: ["○", "off", "lapsed"],
  trace: ["·", "off", "trace"], debug: ["·", "off", "debug"], info: ["i", "off", "info"],
  warn: ["!", "busy", "warn"], error: ["✕", "bad", "error"], fatal: ["✖", "bad", "fatal"],
  warning: ["!", "busy", "warning"], critical: ["✖", "bad", "critical"],
};
/** [icon, style, word]: never colour alone. */
export const state = (name) => STATES[name] ?? ["·", "off", String(name)];
