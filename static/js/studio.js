// The studio of a stream: what is sent, when, to whom, and how it gets there.

import { followRoom } from "./call-log.js";
import { ask, setUpConfirm, withdrawQuestion } from "./confirm.js";
import { Figures } from "./figures.js";
import { addTexts, say, setUpLanguages, text } from "./i18n.js";
import liveTexts from "./lang/live.js";
import texts from "./lang/studio.js";
import { canRun, copyLink, instance, keepAwake, makeViewerLink, streamIn, wirePaste } from "./live-common.js";
import { startLog } from "./log.js";
import { clearNotices, notify, unnotify } from "./notices.js";
import { showQr } from "./qr.js";
import { askedMode, setUpRelay } from "./relay-switch.js";
import { join } from "../relais.js";
import { fillQualities, setClock, showAir, showDevices, showLink, showLock, showPreview, showViewers } from "./studio-views.js";
import { limitFor, QUALITIES, StudioMedia } from "./studio-media.js";
import { takeToken, tokenFor } from "./token.js";
import { byId, refuse, show } from "./views.js";

const name = streamIn(location.pathname);
const sessionKey = `relais.studio.${name}`;
const QUALITY_KEY = "relais.quality";

const log = startLog("studio");
const media = new StudioMedia();
const figures = new Figures(byId("figures-list"), { nameOf, only: "out", remove });
const relaySwitch = setUpRelay(setRelay);
let room = null;
let relay = askedMode();
let quality = localStorage.getItem(QUALITY_KEY) in QUALITIES ? localStorage.getItem(QUALITY_KEY) : "auto";
/** When it went live, for the clock; `null`: off the air. */
let since = null;
/** Viewers that have no name are numbered as they come. */
const numbers = new WeakMap();
let lastNumber = 0;

addTexts(liveTexts);
addTexts(texts);
takeToken();
setUpLanguages(() => {
  fillQualities(quality);
  refreshMedia();
  refresh();
});
for (const heading of document.querySelectorAll("[data-room]")) heading.textContent = name;
fillQualities(quality);
wireControls();
if (canRun(name, true)) begin();
setTitle();

async function begin() {
  const before = beforeReload();
  if (before) {
    Object.assign(media.devices.wanted, before.wanted);
    relay = before.relay;
  }
  relaySwitch.take(relay);
  show("studio");
  refreshMedia();
  enter(before);
  await media.devices.open();
  if (!before?.since) return;
  goLive(before.since);
  if (before.wasScreen) notify("studio.screen-again", {}, { id: "screen", kind: "warn" });
}

/** A studio reloaded while live goes on by itself; one opened anew waits for the button. */
function beforeReload() {
  const [navigation] = performance.getEntriesByType("navigation");
  if (!["reload", "back_forward"].includes(navigation?.type)) return null;
  try {
    return JSON.parse(sessionStorage.getItem(sessionKey));
  } catch {
    return null;
  }
}

function remember() {
  const { wanted } = media.devices;
  const kept = { ...room.ticket, wanted, relay, since, wasScreen: media.sharing };
  sessionStorage.setItem(sessionKey, JSON.stringify(kept));
}

/** Takes the stream's place at once: the link can be made, and whoever waits is counted. */
function enter(before = null) {
  room = join(name, {
    server: location.origin,
    token: tokenFor(name),
    instance,
    session: before?.session,
    seq: before?.seq,
    stream: "streamer",
    held: true,
    media,
    info: media.info,
    relay,
  });
  followRoom(log, room);
  wireRoom(room);
  refresh();
}

function wireRoom(mine) {
  const on = (type, handler) => mine.addEventListener(type, ({ detail }) => room === mine && handler(detail));
  on("joined", () => {
    remember();
    if (unnotify("server")) notify("notice.back");
    warnAboutRelay();
    showLink(makeViewerLink(name, mine));
    refresh();
  });
  on("state", ({ state }) => {
    if (state === "waiting") notify(since ? "studio.server" : "notice.server-first", {}, { id: "server", kind: "warn" });
    refresh();
  });
  on("peer", ({ peer }) => {
    lastNumber += 1;
    numbers.set(peer, lastNumber);
    limit();
    refresh();
  });
  on("peer-left", () => {
    limit();
    refresh();
  });
  on("change", ({ peer }) => {
    if (relay && peer.state === "failed" && mine.state === "joined") notify("relay.unreachable", {}, { id: "relay", kind: "warn" });
    refresh();
  });
  on("viewers", refresh);
  on("lock", refresh);
  on("draining", () => notify("notice.draining", {}, { id: "server", kind: "warn" }));
  on("closed", ({ code, message }) => onFatal(code, message));
}

function onFatal(code, message) {
  unnotify("server");
  const isWatched = room.peers.some((peer) => peer.state === "connected");
  // Somebody else has the stream now, or we are somewhere else: what is still sent here nobody should see.
  if (isWatched && !["replaced", "stream-taken"].includes(code)) {
    return notify("notice.gone", { reason: message || code }, { id: "gone", kind: "warn" });
  }
  leave();
  refuse(code, { room: name, message });
}

function leave() {
  const old = room;
  room = null;
  since = null;
  old?.leave();
  sessionStorage.removeItem(sessionKey);
  media.stop();
  clearNotices();
  withdrawQuestion();
  refresh();
}

async function retry() {
  show("studio");
  enter();
  await media.devices.open();
}

function nameOf(peer) {
  return peer.name || text("studio.viewer", { number: numbers.get(peer) ?? "" });
}

function remove(peer) {
  const name = nameOf(peer);
  ask("kick", "studio.remove", { name }, () => {
    room?.kick(peer);
    log.add("removed", { peer: peer.id });
    notify("studio.removed", { name });
  });
}

function setLock() {
  const { checked } = byId("lock");
  room?.lock(checked);
  notify(checked ? "studio.locked" : "studio.unlocked", {}, { id: "lock" });
}

function goLive(from = Date.now()) {
  if (!room) return;
  if (!media.video && !media.audio) {
    say(byId("go-problem"), "studio.nothing");
    byId("go-problem").hidden = false;
    return;
  }
  performance.mark("relais:live");
  byId("go-problem").hidden = true;
  since = from;
  room.begin();
  log.add("live", { viewers: room.viewers });
  remember();
  refresh();
  keepAwake();
}

function stopLive() {
  since = null;
  room.pause();
  log.add("off");
  remember();
  refresh();
}

function limit() {
  room?.limitVideo(limitFor(quality, room.peers.length));
}

function setQuality(wanted) {
  quality = wanted;
  localStorage.setItem(QUALITY_KEY, wanted);
  log.add("quality", { quality });
  limit();
}

function setRelay(mode) {
  relay = mode;
  log.add("relay", { mode });
  unnotify("relay");
  room?.setRelay(mode);
  warnAboutRelay();
}

function warnAboutRelay() {
  if (relay && room?.state === "joined" && room.usableServers === 0) notify("relay.none", {}, { id: "relay", kind: "warn" });
}

async function toggleScreen() {
  if (media.sharing) return media.unshare();
  try {
    await media.share();
    unnotify("screen");
  } catch (error) {
    // Closing the browser's chooser is no failure.
    if (error.name !== "NotAllowedError") notify("notice.share-failed", {}, { kind: "warn" });
  }
}

async function turn(button) {
  const kind = button.dataset.turn;
  await media.devices.turn(kind, button.getAttribute("aria-pressed") !== "true");
  const problem = media.devices.problems[kind];
  if (problem) notify(`problem.${kind}.${problem}`, {}, { kind: "warn" });
}

function refreshMedia() {
  showDevices(media);
  showPreview(media);
  room?.setInfo(media.info);
  if (media.video || media.audio) byId("go-problem").hidden = true;
}

function refresh() {
  showAir(since, room?.state ?? "closed");
  showViewers(room);
  showLock(room);
  // Before it is live there is nothing to measure.
  byId("no-watchers").hidden = figures.update(since && room ? room.peers : []) > 0;
}

function setTitle() {
  document.title = name ? text("studio.page", { room: name }) : "Relais";
}

function wireControls() {
  const click = (id, handler) => byId(id).addEventListener("click", handler);
  const link = () => (room ? makeViewerLink(name, room) : Promise.reject(new Error("not in the stream")));
  media.addEventListener("change", refreshMedia);
  media.addEventListener("track", ({ detail }) => room?.setTrack(detail.kind, detail.track));
  for (const button of document.querySelectorAll("[data-turn]")) button.addEventListener("click", () => turn(button));
  for (const select of document.querySelectorAll("[data-pick]")) {
    select.addEventListener("change", () => media.devices.pick(select.dataset.pick, select.value));
  }
  for (const button of document.querySelectorAll("[data-save-log]")) button.addEventListener("click", () => log.save());
  for (const button of document.querySelectorAll("[data-language]")) button.addEventListener("click", setTitle);
  byId("quality").addEventListener("change", () => setQuality(byId("quality").value));
  click("go", () => (since ? stopLive() : goLive()));
  click("screen", toggleScreen);
  click("retry", retry);
  click("copy", () => copyLink(link()));
  byId("share").hidden = !navigator.share;
  click("share", async () => {
    const url = await link().catch(() => null);
    // Closing the system's chooser is no failure.
    if (url) await navigator.share({ title: name, url }).catch(() => {});
    else notify("copy.no-server", {}, { kind: "warn" });
  });
  byId("lock").addEventListener("change", setLock);
  setUpConfirm();
  wireQr(click, link);
  wirePaste(name);
  setClock(() => since);
  wirePage();
}

function wireQr(click, link) {
  click("open-qr", async () => {
    const shown = await link().catch(() => null);
    if (!shown) return notify("copy.no-server", {}, { kind: "warn" });
    byId("qr").showModal();
    await showQr(byId("qr-code"), shown);
  });
  click("close-qr", () => byId("qr").close());
  byId("qr").addEventListener("click", (event) => event.target === event.currentTarget && event.target.close());
}

function wirePage() {
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
    if (since) keepAwake();
  });
}
