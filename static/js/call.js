// The call page: ties devices, room and views together.

import { followRoom } from "./call-log.js";
import { setUpDevices } from "./device-controls.js";
import { Devices } from "./devices.js";
import { Figures, wireFigures } from "./figures.js";
import { setUpLanguages, text } from "./i18n.js";
import { closingIsMine, resetHost, setUpHost, showHost } from "./host.js";
import { startLog } from "./log.js";
import { clearNotices, notify, unnotify } from "./notices.js";
import { join } from "../relais.js";
import { askedMode, setUpRelay } from "./relay-switch.js";
import { isRoomName, roomIn, understand } from "./room-name.js";
import { copyLink, shareLink } from "./share.js";
import { playAll, removeAll, removeTile, showStream, showTile } from "./tiles.js";
import { keepToken, takeToken, tokenFor, tokenIn } from "./token.js";
import { byId, refuse, show, showRoute, showStatus } from "./views.js";

const STORE_NAME = "relais.name";
const name = roomIn(location.pathname) ?? "";
const sessionKey = `relais.session.${name}`;
/** Others know this page by it when it comes back under another peer id. */
const instance = crypto.randomUUID?.() ?? String(Math.random()).slice(2);

/** Why somebody is gone: the languages have a sentence for each. */
const LEAVING = new Set(["left", "lost", "reload", "kicked", "revoked"]);

const log = startLog("call");
const devices = new Devices();
const figures = new Figures(byId("figures-list"));
const relaySwitch = setUpRelay(setRelay);
const refreshDevices = setUpDevices(devices, { changed: () => room?.setInfo(devices.info), inCall: () => room !== null });
let room = null;
let relay = askedMode();
let everConnected = false;

takeToken();
setUpLanguages(() => {
  refreshDevices();
  refreshCall();
  setTitle();
});
for (const heading of document.querySelectorAll("[data-room]")) heading.textContent = name;
wireControls();
begin();

async function begin() {
  if (!isRoomName(name)) return refuse("bad-room");
  if (!window.RTCPeerConnection) return refuse("unsupported");
  if (!window.isSecureContext || !navigator.mediaDevices) {
    const token = tokenFor(name);
    const path = `${location.host}${location.pathname}${location.search}`;
    return refuse("insecure", { secureHref: `https://${path}${token ? `#t=${token}` : ""}` });
  }
  byId("name").value = localStorage.getItem(STORE_NAME) ?? "";
  const before = inCallBeforeReload();
  if (before) Object.assign(devices.wanted, before.wanted);
  if (before) relay = before.relay;
  relaySwitch.take(relay);
  if (!before) show("prejoin");
  await devices.open();
  if (before) enter(before);
  else setTitle();
}

/** A page reloaded in mid-call goes straight back; one opened anew asks first. */
function inCallBeforeReload() {
  const [navigation] = performance.getEntriesByType("navigation");
  if (!["reload", "back_forward"].includes(navigation?.type)) return null;
  try {
    return JSON.parse(sessionStorage.getItem(sessionKey));
  } catch {
    return null;
  }
}

function enter(before = null) {
  performance.mark("relais:join");
  const displayName = byId("name").value.trim();
  localStorage.setItem(STORE_NAME, displayName);
  everConnected = false;
  resetHost();
  room = join(name, {
    server: location.origin,
    token: tokenFor(name),
    name: displayName || undefined,
    instance,
    session: before?.session,
    seq: before?.seq,
    media: devices,
    info: devices.info,
    relay,
  });
  followRoom(log, room);
  wireRoom(room);
  show("stage");
  setTitle();
  refreshCall();
  keepAwake();
}

function wireRoom(mine) {
  const on = (type, handler) => mine.addEventListener(type, ({ detail }) => room === mine && handler(detail));
  on("joined", (joined) => {
    remember();
    if (unnotify("server")) notify("notice.back");
    warnAboutRelay();
    showHost(mine);
    refreshCall();
  });
  on("state", (state) => {
    if (state.state === "waiting") notify(connectedPeers() ? "notice.server" : "notice.server-first", {}, { id: "server", kind: "warn" });
    refreshCall();
  });
  on("peer", ({ peer }) => {
    showTile(peer);
    showHost(mine);
    refreshCall();
  });
  on("peer-left", ({ peer, reason }) => {
    removeTile(peer);
    if (LEAVING.has(reason)) notify(`notice.${reason}`, { name: nameOf(peer) });
    refreshCall();
  });
  on("stream", ({ peer }) => showStream(peer));
  on("change", ({ peer }) => {
    showTile(peer);
    refreshCall();
  });
  on("lock", ({ locked, by }) => {
    showHost(mine);
    if (by !== mine.id) notify(locked ? "notice.locked" : "notice.unlocked");
  });
  on("draining", () => notify("notice.draining", {}, { id: "server", kind: "warn" }));
  on("refused", ({ code }) => code === "not-host" && notify("notice.not-host", {}, { kind: "warn" }));
  on("closed", ({ code, message }) => onFatal(code, message));
}

function onFatal(code, message) {
  unnotify("server");
  if (code === "room-closed" && closingIsMine()) return hangUp();
  if (connectedPeers() > 0 && code !== "replaced") {
    return notify("notice.gone", { reason: message || code }, { id: "gone", kind: "warn" });
  }
  leave();
  refuse(code, { room: name, message });
}

function hangUp() {
  leave();
  show("ended");
  setTitle();
}

function leave() {
  const old = room;
  room = null;
  old?.leave();
  sessionStorage.removeItem(sessionKey);
  devices.stop();
  removeAll();
  clearNotices();
  if (byId("settings").open) byId("settings").close();
  if (byId("confirm").open) byId("confirm").close("");
  if (document.fullscreenElement) document.exitFullscreen();
}

/** What a reload needs to take this place again as it was. */
function remember() {
  const kept = { ...room.ticket, wanted: devices.wanted, relay };
  sessionStorage.setItem(sessionKey, JSON.stringify(kept));
}

function connectedPeers() {
  return room?.peers.filter((peer) => peer.state === "connected").length ?? 0;
}

function nameOf(peer) {
  return peer.name || text("someone");
}

/** Everything on the stage that follows from the state of the room. */
function refreshCall() {
  if (!room) return;
  const { peers } = room;
  const alone = peers.length === 0;
  if (connectedPeers() > 0) {
    everConnected = true;
    unnotify("relay");
  }
  byId("stage").classList.toggle("alone", alone);
  byId("waiting").hidden = !alone || room.state !== "joined";
  byId("waiting-link").textContent = `${location.host}/call/${name}`;
  showStatus(stateWord(peers));
  const routed = peers.filter((peer) => peer.route && peer.state === "connected");
  showRoute((routed.find((peer) => peer.route.kind === "relay") ?? routed[0])?.route ?? null);
  byId("no-figures").hidden = figures.update(peers) > 0;
  warnAboutFailure(peers.find((peer) => peer.state === "failed"));
}

/** Somebody is there, but no way to them has been found; it is tried again by itself. */
function warnAboutFailure(peer) {
  if (!peer) return unnotify("no-way");
  if (relay) notify("relay.unreachable", {}, { id: "relay", kind: "warn" });
  else notify("notice.no-way", { name: nameOf(peer) }, { id: "no-way", kind: "warn" });
}

function stateWord(peers) {
  if (connectedPeers() > 0) return "connected";
  if (room.state === "waiting") return "unreachable";
  if (peers.length === 0) return room.state === "joined" ? "alone" : "joining";
  if (peers.some((peer) => peer.state === "disconnected")) return "interrupted";
  return everConnected || peers.some((peer) => peer.state === "failed") ? "restarting" : "connecting";
}

function warnAboutRelay() {
  if (relay && room?.state === "joined" && room.usableServers === 0) {
    notify("relay.none", {}, { id: "relay", kind: "warn" });
  }
}

function setRelay(mode) {
  relay = mode;
  log.add("relay", { mode });
  unnotify("relay");
  room?.setRelay(relay);
  warnAboutRelay();
}

function setTitle() {
  const key = { prejoin: "pre.page", ended: "ended.page" }[document.body.dataset.view];
  document.title = key ? text(key, { room: name }) : `${name} – Relais`;
}

async function rejoin() {
  await devices.open();
  enter();
}

function usePastedLink(typed) {
  const target = understand(typed, location.origin);
  if (target?.href) return location.assign(target.href);
  const token = target && tokenIn(target.hash);
  if (!token) return byId("paste-link").focus();
  keepToken(token);
  const path = `/call/${encodeURIComponent(target.room ?? name)}`;
  if (location.pathname === path) location.reload();
  else location.assign(path);
}

async function keepAwake() {
  try {
    await navigator.wakeLock?.request("screen");
  } catch {
    // Not allowed on low battery: the screen then goes dark as always.
  }
}

function wireControls() {
  const click = (id, handler) => byId(id).addEventListener("click", handler);
  devices.addEventListener("track", ({ detail }) => room?.setTrack(detail.kind, detail.track));
  byId("enter").addEventListener("submit", (event) => {
    event.preventDefault();
    enter();
  });
  byId("paste").addEventListener("submit", (event) => {
    event.preventDefault();
    usePastedLink(byId("paste-link").value);
  });
  for (const button of document.querySelectorAll("[data-copy]")) button.addEventListener("click", () => copyLink(name, room));
  click("hang-up", hangUp);
  click("rejoin", rejoin);
  click("retry", rejoin);
  click("sound", playAll);
  click("open-settings", () => byId("settings").showModal());
  click("close-settings", () => byId("settings").close());
  byId("settings").addEventListener("click", (event) => event.target === event.currentTarget && event.target.close());
  byId("fullscreen").hidden = !document.fullscreenEnabled;
  click("fullscreen", () => (document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen()));
  byId("share").hidden = !navigator.share;
  click("share", () => shareLink(name, room));
  setUpHost(() => room);
  wireFigures(log, () => room !== null);
  wirePage();
}

function wirePage() {
  // The place becomes free at once; a reload takes it again.
  addEventListener("pagehide", () => {
    if (!room) return;
    remember();
    room.goAway();
  });
  addEventListener("pageshow", (event) => event.persisted && location.reload());
  addEventListener("online", () => room?.retry());
  document.addEventListener("visibilitychange", () => {
    if (!room || document.visibilityState !== "visible") return;
    room.retry();
    keepAwake();
  });
}
