// The address holds what a page shows: filters, sorting, range. A link says all of it.

export const query = () => Object.fromEntries(new URLSearchParams(location.search));

/** The current address with some parameters changed; empty ones go. */
export function withQuery(changes) {
  const next = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) {
    if (value === "" || value === null || value === undefined) next.delete(name);
    else next.set(name, value);
  }
  const text = next.toString();
  return location.pathname + (text ? `?${text}` : "");
}

export const link = (path, parameters) => `${path}?${new URLSearchParams(parameters)}`;

/** Shows another address without loading; `replace` for typing, so that Back isn't a keystroke. */
export function go(address, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", address);
  dispatchEvent(new Event("telemetryx:navigate"));
}
