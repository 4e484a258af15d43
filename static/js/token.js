// The access token of an invite link: taken from `#t=`, kept for this tab, given back to links made here.

const PREFIX = "relais.token.";

/** The room a token opens (`*`: any), read from its payload without checking it; `null` when it cannot be read. */
export function tokenRoom(token) {
  const { room } = payloadOf(token) ?? {};
  return typeof room === "string" ? room : null;
}

/** Keeps a token for later: under the room it opens, else for any room. */
export function keepToken(token, storage = sessionStorage) {
  storage.setItem(PREFIX + (tokenRoom(token) ?? "*"), token);
}

/** Forgets every token, for when the server refused one. */
export function forgetToken(token, storage = sessionStorage) {
  for (const key of Object.keys(storage)) {
    if (key.startsWith(PREFIX) && storage.getItem(key) === token) storage.removeItem(key);
  }
}

/** The token to show for `room`: its own, else the one for any room; without `room` the one for any room. */
export function tokenFor(room, storage = sessionStorage) {
  return (room && storage.getItem(PREFIX + room)) || storage.getItem(`${PREFIX}*`) || null;
}

/** The token in a fragment such as `#t=eyJ…`. */
export function tokenIn(hash) {
  return new URLSearchParams(hash.replace(/^#/, "")).get("t");
}

/** Moves the token from the address bar to the storage of this tab. */
export function takeToken(place = location, past = history, storage = sessionStorage) {
  const token = tokenIn(place.hash);
  if (!token) return;
  keepToken(token, storage);
  past.replaceState(past.state, "", place.pathname + place.search);
}

/** What the bearer of a token is, read from its payload without checking it; `null` when it cannot be read. */
export function tokenRole(token) {
  return payloadOf(token)?.role ?? null;
}

/** The link into `room` with a token (or, where none is needed, without). */
export function linkTo(room, token, origin = location.origin) {
  return `${origin}/call/${encodeURIComponent(room)}${token ? `#t=${token}` : ""}`;
}

function payloadOf(token) {
  try {
    return JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
  } catch {
    return null;
  }
}
