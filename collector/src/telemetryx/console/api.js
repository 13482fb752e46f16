// The HTTP API as the pages use it: one function that fetches JSON, one kind of error, and the login.

export class ApiError extends Error {
  constructor(status, error) {
    super(error.message ?? `HTTP ${status}`);
    this.status = status;
    this.hint = error.hint ?? "";
  }
}

/** GET /api/v1/<path> with query parameters; arrays repeat, empty values are left out. */
export async function get(path, query = {}, signal) {
  const url = new URL(`/api/v1/${path}`, location.origin);
  for (const [name, value] of Object.entries(query)) {
    for (const item of Array.isArray(value) ? value : [value]) {
      if (item !== "" && item !== null && item !== undefined) url.searchParams.append(name, item);
    }
  }
  let answer;
  let text;
  try {
    answer = await fetch(url, { signal, headers: { Accept: "application/json" } });
    // The body can be given up or cut off as well as the request.
    text = await answer.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { message: "the collector does not answer", hint: "this page tries again by itself" });
  }
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    throw new ApiError(answer.status, { message: `what answered with HTTP ${answer.status} is not the collector`, hint: "look at what stands between this page and it" });
  }
  if (!answer.ok) throw new ApiError(answer.status, body.error ?? {});
  return body;
}

export async function login(token) {
  const answer = await fetch("/api/v1/login", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ token }),
  });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new ApiError(answer.status, body.error ?? {});
}
