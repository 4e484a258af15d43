// What the two pages of a stream share: its name, its link, and what stands in place of the page when there is none.

import { notify } from "./notices.js";
import { isRoomName, understand } from "./room-name.js";
import { copy } from "./share.js";
import { keepToken, tokenFor, tokenIn } from "./token.js";
import { byId, refuse } from "./views.js";

/** An invite that was made is shown again for so long; those who come by it have at least the rest of its day. */
const LINK_KEPT = 10 * 60_000;

/** The name of the stream in a path `/live/{stream}` or `/live/{stream}/studio`; empty when it is none. */
export function streamIn(path) {
  const [, name] = /^\/live\/([^/]+)(?:\/studio)?\/?$/.exec(path) ?? [];
  return name && isRoomName(name) ? name : "";
}

/** Others know this page by it when it comes back under another peer id. */
export const instance = crypto.randomUUID?.() ?? String(Math.random()).slice(2);

/** Says why the page cannot be used at all; true when it can. */
export function canRun(name, needsDevices) {
  if (!name) refuse("bad-room");
  else if (!window.RTCPeerConnection) refuse("unsupported");
  else if (needsDevices && (!window.isSecureContext || !navigator.mediaDevices)) {
    const token = tokenFor(name);
    const path = `${location.host}${location.pathname}${location.search}`;
    refuse("insecure", { secureHref: `https://${path}${token ? `#t=${token}` : ""}` });
  } else return true;
  return false;
}

/** The link for those who watch. */
export function linkFor(name, token, origin = location.origin) {
  return `${origin}/live/${encodeURIComponent(name)}${token ? `#t=${token}` : ""}`;
}

/**
 * The viewers' link of the streamer's room: with an invite that opens no more than watching. Where no invitations are
 * needed it goes without.
 */
export function makeViewerLink(name, room) {
  if (!tokenFor(name)) return Promise.resolve(linkFor(name, null));
  const kept = links.get(room);
  if (kept && performance.now() - kept.at < LINK_KEPT) return kept.link;
  const link = room.invite({ role: "viewer" }).then(({ token }) => linkFor(name, token));
  links.set(room, { link, at: performance.now() });
  // The next one asks again.
  link.catch(() => links.delete(room));
  return link;
}

const links = new WeakMap();

/** Puts a link that is still to come into the clipboard, or shows it to be copied by hand. */
export async function copyLink(link) {
  try {
    await copy(link);
    notify("copied");
  } catch {
    await link.then(
      (shown) => notify("copy.failed", { link: shown }, { id: "copy" }),
      () => notify("copy.no-server", {}, { kind: "warn" }),
    );
  }
}

/** Wires the field of the refusal where people paste the link that they were sent. */
export function wirePaste(name) {
  byId("paste").addEventListener("submit", (event) => {
    event.preventDefault();
    const target = understand(byId("paste-link").value, location.origin);
    if (target?.href) return location.assign(target.href);
    const token = target?.hash && tokenIn(target.hash);
    if (!token) return byId("paste-link").focus();
    keepToken(token);
    const named = streamIn(new URL(byId("paste-link").value.trim(), location.origin).pathname);
    if (!named || named === name) location.reload();
    else location.assign(`/live/${encodeURIComponent(named)}`);
  });
}

export async function keepAwake() {
  try {
    await navigator.wakeLock?.request("screen");
  } catch {
    // Not allowed on low battery: the screen then goes dark as always.
  }
}

/** Shows the figures and hides them again: `#figures` and every button for it. Alt+S does, too. */
export function wireFigures() {
  const showFigures = (shown) => {
    byId("figures").hidden = !shown;
    byId("open-figures").setAttribute("aria-pressed", String(shown));
  };
  const toggle = () => showFigures(byId("figures").hidden);
  byId("open-figures").addEventListener("click", toggle);
  byId("badge").addEventListener("click", toggle);
  byId("close-figures").addEventListener("click", () => {
    showFigures(false);
    byId("open-figures").focus();
  });
  byId("show-figures").addEventListener("click", () => {
    byId("settings").close();
    showFigures(true);
    byId("close-figures").focus();
  });
  addEventListener("keydown", (event) => {
    if (!event.altKey || event.ctrlKey || event.metaKey || event.code !== "KeyS" || byId("stage").hidden) return;
    event.preventDefault();
    toggle();
  });
}
