// Who is at this page, and what they may do: the header and the pages ask here.
import { signal } from "./vendor/signals-core-1.14.5/dist/signals-core.mjs";
import { get, send, useCsrf } from "./api.js";

/** As /api/v1/me says; null before it was asked, and when nobody is logged in. */
export const me = signal(null);
const RANKS = { viewer: 1, operator: 2, admin: 3 };

/** Whether who is here may do what needs this role. */
export const can = (role) => (RANKS[me.value?.role] ?? 0) >= RANKS[role];
/** Whether the collector knows who it is: an open one takes anybody for an admin. */
export const known = () => me.value !== null && me.value.via !== "open";

export async function look() {
  const found = await get("me");
  useCsrf(found.csrf);
  me.value = found;
}

export function forget() {
  useCsrf("");
  me.value = null;
}

/** With `{ user, password }` or `{ token }`. */
export async function login(shown) {
  await send("POST", "login", shown);
  await look();
}

export async function first(code, name, password) {
  await send("POST", "first", { code, name, password });
  await look();
}

/** Gives the provider's page that signs out there too, where this session began at one. */
export async function logout(everywhere = false) {
  const { url } = await send("POST", "logout", { everywhere });
  forget();
  return url;
}

/** Another password; this browser's session is a new one then. */
export async function changePassword(old, wanted) {
  await send("POST", "password", { old, new: wanted });
  await look();
}
