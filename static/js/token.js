// The access token of an invite link: taken from `#t=`, kept for this tab, given back to links made here.

const PREFIX = "relais.token.";

/** The room a token opens (`*`: any), read from its payload without checking it; `null` when it cannot be read. */
export function tokenRoom(token) {
  try {
    const payload = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const { room } = JSON.parse(atob(payload));
    return typeof room === "string" ? room : null;
  } catch {
    return null;
  }
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

/** The link that lets somebody else into `room`. */
export function inviteLink(room, origin = location.origin, storage = sessionStorage) {
  const token = tokenFor(room, storage);
  return `${origin}/call/${encodeURIComponent(room)}${token ? `#t=${token}` : ""}`;
}
