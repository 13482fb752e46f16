// The HTTP API as the pages use it: one function that fetches JSON, one that changes something, one kind of error.

export class ApiError extends Error {
  constructor(status, error) {
    super(error.message ?? `HTTP ${status}`);
    this.status = status;
    this.hint = error.hint ?? "";
  }
}

/** What goes along with changes in this session: a page of another site can't know it. */
let csrf = "";
export const useCsrf = (token) => { csrf = token ?? ""; };

/** GET /api/v1/<path> with query parameters; arrays repeat, empty values are left out. */
export async function get(path, query = {}, signal) {
  const url = new URL(`/api/v1/${path}`, location.origin);
  for (const [name, value] of Object.entries(query)) {
    for (const item of Array.isArray(value) ? value : [value]) {
      if (item !== "" && item !== null && item !== undefined) url.searchParams.append(name, item);
    }
  }
  return ask(url, { signal });
}

/** POST, PATCH or DELETE /api/v1/<path>; with a body unless it is a DELETE. */
export async function send(method, path, body) {
  const headers = { "X-CSRF-Token": csrf };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  return ask(new URL(`/api/v1/${path}`, location.origin), { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
}

async function ask(url, { headers = {}, ...how }) {
  let answer;
  let text;
  try {
    answer = await fetch(url, { ...how, headers: { Accept: "application/json", ...headers } });
    // The body can be given up or cut off as well as the request.
    text = await answer.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { message: "the collector does not answer", hint: how.method ? "try again in a moment" : "this page tries again by itself" });
  }
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    throw new ApiError(answer.status, { message: `what answered with HTTP ${answer.status} is not the collector`, hint: "look at what stands between this page and it" });
  }
  if (!answer.ok) {
    const error = new ApiError(answer.status, body.error ?? {});
    // A session can end while a page is open.
    if (answer.status === 401) dispatchEvent(new Event("telemetryx:login"));
    throw error;
  }
  return body;
}
