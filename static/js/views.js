// The faces of the call page: before, in, after and instead of a call. Knows the document, not the call.

import { routeText } from "./figures.js";
import { say, text } from "./i18n.js";

/** Not every page has all of them. */
const VIEWS = ["prejoin", "stage", "studio", "ended", "refused"];
const WITH_TEXT = new Set(["token-missing", "token-invalid", "token-expired", "wrong-room", "room-full", "rooms-full",
  "bad-room", "bad-name", "replaced", "version", "insecure", "unsupported", "token-revoked", "kicked", "room-closed",
  "room-locked", "stream-taken", "wrong-role"]);
const CURED_BY_LINK = new Set(["token-missing", "token-invalid", "token-expired", "token-revoked", "wrong-room", "wrong-role", "kicked"]);
const HOPELESS = new Set(["bad-room", "insecure", "unsupported", "room-closed"]);

export const byId = (id) => document.getElementById(id);

/** Shows one view and tells screen readers by moving the focus to its heading. */
export function show(view) {
  for (const name of VIEWS) if (byId(name)) byId(name).hidden = name !== view;
  byId("page-bar").hidden = view === "stage";
  document.body.dataset.view = view;
  const heading = byId(view).querySelector("h1");
  heading.tabIndex = -1;
  heading.focus({ preventScroll: true });
}

/** Has this refusal of the server sentences of its own (`refused.{code}`)? */
export function hasText(code) {
  return WITH_TEXT.has(code);
}

/** Says why there is no call, and what to do. */
export function refuse(code, { room, message = "", secureHref = null } = {}) {
  const known = WITH_TEXT.has(code) ? code : "other";
  say(byId("refused-title"), `refused.${known}.title`);
  say(byId("refused-text"), `refused.${known}.text`, { room, message: message || code });
  byId("paste").hidden = !CURED_BY_LINK.has(code);
  byId("retry").hidden = CURED_BY_LINK.has(code) || HOPELESS.has(code);
  byId("secure-link").hidden = !secureHref;
  if (secureHref) byId("secure-link").href = secureHref;
  byId("refused").dataset.code = code;
  show("refused");
}

/** The state of the call in words, with a colour beside it. */
export function showStatus(state) {
  say(byId("status"), `state.${state}`);
  byId("status-dot").dataset.state = state;
}

/** The badge that says which way the call takes. */
export function showRoute(route) {
  const badge = byId("badge");
  badge.hidden = !route;
  if (!route) return;
  badge.dataset.route = route.kind;
  badge.dataset.transports = route.transports.join(" ");
  byId("badge-icon").setAttribute("href", route.kind === "relay" ? "#icon-relay" : "#icon-direct");
  byId("badge-text").textContent = routeText(route);
}

/** Fills a device picker and marks what is in use. */
export function fillPicker(select, devices, current) {
  const options = devices.map((device, index) => {
    const option = new Option(device.label || text("device.number", { number: index + 1 }), device.deviceId);
    option.selected = device.deviceId === current;
    return option;
  });
  if (options.length === 0) {
    const none = new Option("", "");
    say(none, "device.none");
    options.push(none);
  }
  select.replaceChildren(...options);
  select.disabled = devices.length === 0;
}

/** One sentence or two on devices that could not be opened. Returns keys. */
export function problemKeys({ audio, video }) {
  if (audio && audio === video) return [`problem.both.${audio}`];
  return [video && `problem.video.${video}`, audio && `problem.audio.${audio}`].filter(Boolean);
}
