// The page of those who watch a stream: waits for it, shows it, and finds back to it by itself.

import { followRoom } from "./call-log.js";
import { Figures } from "./figures.js";
import { addTexts, say, setUpLanguages, text } from "./i18n.js";
import texts from "./lang/live.js";
import { canRun, copyLink, instance, keepAwake, linkFor, streamIn, wireFigures, wirePaste } from "./live-common.js";
import { Player } from "./live-player.js";
import { startLog } from "./log.js";
import { clearNotices, notify, unnotify } from "./notices.js";
import { askedMode, setUpRelay } from "./relay-switch.js";
import { join } from "../relais.js";
import { takeToken, tokenFor } from "./token.js";
import { byId, refuse, show, showRoute } from "./views.js";

/** A streamer who is gone without a word may be loading the page again. */
const BACK_WITHIN = 20_000;
/** Before a stream whose page cannot repair its connections is asked for once more; doubled up to the longest. */
const FIRST_AGAIN = 1_000;
const LONGEST_AGAIN = 30_000;

const name = streamIn(location.pathname);
const log = startLog("live");
const figures = new Figures(byId("figures-list"), { nameOf: () => text("live.source"), only: "in" });
const player = new Player(byId("video"));
const relaySwitch = setUpRelay(setRelay);
let room = null;
let relay = askedMode();
/** What happened last: `ended` (the streamer said so), `left` (it is gone in mid-stream), or nothing. */
let past = null;
/** Has anything come since? */
let wasLive = false;
let goneAt = 0;
let again = FIRST_AGAIN;
let againTimer;
let refusal = null;

addTexts(texts);
takeToken();
setUpLanguages(() => {
  refresh();
  setTitle();
});
for (const heading of document.querySelectorAll("[data-room]")) heading.textContent = name;
relaySwitch.take(relay);
wireControls();
setTitle();
if (canRun(name, false)) enter();

function enter() {
  performance.mark("relais:join");
  refusal = null;
  room = join(name, { server: location.origin, token: tokenFor(name), instance, stream: "viewer", relay });
  followRoom(log, room);
  wireRoom(room);
  if (byId("stage").hidden) show("stage");
  refresh();
  keepAwake();
}

function wireRoom(mine) {
  const on = (type, handler) => mine.addEventListener(type, ({ detail }) => room === mine && handler(detail));
  on("joined", () => {
    if (unnotify("server")) notify("notice.back");
    warnAboutRelay();
    refresh();
  });
  on("state", ({ state }) => {
    if (state === "waiting") notify(isLive() ? "notice.server" : "notice.server-first", {}, { id: "server", kind: "warn" });
    refresh();
  });
  on("peer", refresh);
  on("peer-left", () => onGone(wasLive ? "left" : past));
  on("pause", () => onGone("ended"));
  on("stream", ({ stream }) => player.play(stream));
  on("change", ({ peer }) => onChange(peer));
  on("viewers", refresh);
  on("draining", () => notify("notice.draining", {}, { id: "server", kind: "warn" }));
  on("closed", ({ code, message }) => onFatal(code, message));
}

function onGone(how) {
  past = how;
  wasLive = false;
  goneAt = performance.now();
  player.stop();
  setTimeout(refresh, BACK_WITHIN);
  refresh();
}

function onChange(peer) {
  if (peer.state === "connected") {
    past = null;
    wasLive = true;
    again = FIRST_AGAIN;
    unnotify("relay");
  } else if (peer.state === "failed") {
    if (relay && room.state === "joined") notify("relay.unreachable", {}, { id: "relay", kind: "warn" });
    if (!isOurs(peer)) askAgain();
  }
  refresh();
}

/** Pages of other kinds (they tell no instance) call each viewer once: who lost the connection comes as somebody new. */
const isOurs = (peer) => Boolean(peer.instance);

function askAgain() {
  if (againTimer) return;
  againTimer = setTimeout(() => {
    againTimer = undefined;
    if (room && !isLive()) rejoin();
  }, again);
  again = Math.min(again * 2, LONGEST_AGAIN);
}

function rejoin() {
  const old = room;
  room = null;
  old?.leave();
  player.stop();
  enter();
}

function onFatal(code, message) {
  unnotify("server");
  refusal = { code, message };
  if (isLive() && !["replaced", "kicked", "room-closed"].includes(code)) notify("notice.gone", { reason: message || code }, { id: "gone", kind: "warn" });
  else leave();
}

/** The server lets us in no more, and nothing comes any more. */
function leave() {
  const old = room;
  room = null;
  old?.leave();
  player.stop();
  clearNotices();
  if (byId("settings").open) byId("settings").close();
  if (document.fullscreenElement) document.exitFullscreen();
  refuse(refusal.code, { room: name, message: refusal.message });
}

function streamer() {
  return room?.peers.find((peer) => peer.role === "streamer") ?? null;
}

function isLive() {
  return streamer()?.state === "connected";
}

/** How it stands, in one word: the languages have a title and a sentence for each. */
function stateWord() {
  const peer = streamer();
  if (peer?.state === "connected") return isDark(peer) ? (peer.info.mic === false ? "silent" : "dark") : "live";
  if (room.state === "waiting") return "unreachable";
  if (room.state !== "joined") return "joining";
  if (!peer) return gone();
  if (["disconnected", "failed"].includes(peer.state) || peer.absent) return "interrupted";
  if (peer.state === "connecting" || peer.negotiated) return "connecting";
  return past === "ended" ? "ended" : "ready";
}

function gone() {
  if (past !== "left") return past ?? "before";
  return performance.now() - goneAt < BACK_WITHIN ? "paused" : "ended";
}

/** Sound alone. Pages of other kinds do not tell. */
function isDark({ info }) {
  return info.camera === false && info.screen === false;
}

function refresh() {
  if (!room) return;
  const peer = streamer();
  const word = stateWord();
  if (refusal && !peer) return leave();
  document.body.dataset.state = word;
  say(byId("status"), `live.state.${word}`);
  byId("status-dot").dataset.state = ["live", "dark", "silent"].includes(word) ? "connected" : word;
  byId("waiting").hidden = word === "live";
  if (word !== "live") {
    say(byId("waiting-title"), `live.${word}.title`);
    say(byId("waiting-text"), `live.${word}.text`);
  }
  player.shown = word === "live" || word === "dark";
  byId("viewers").hidden = room.state !== "joined";
  byId("viewers-count").textContent = String(room.viewers);
  say(byId("viewers-words"), room.viewers === 1 ? "live.viewers.one" : "live.viewers.many", { count: room.viewers });
  showRoute(peer?.state === "connected" ? peer.route : null);
  byId("no-figures").hidden = figures.update(peer && isLive() ? [peer] : []) > 0;
}

function warnAboutRelay() {
  if (relay && room?.state === "joined" && room.usableServers === 0) notify("relay.none", {}, { id: "relay", kind: "warn" });
}

function setRelay(mode) {
  relay = mode;
  log.add("relay", { mode });
  unnotify("relay");
  const peer = streamer();
  if (peer && !isOurs(peer)) return rejoin();
  room?.setRelay(mode);
  warnAboutRelay();
}

function setTitle() {
  document.title = text("live.page", { room: name });
}

function wireControls() {
  const click = (id, handler) => byId(id).addEventListener("click", handler);
  player.wire();
  wireFigures();
  wirePaste(name);
  click("copy", () => copyLink(Promise.resolve(linkFor(name, tokenFor(name)))));
  click("retry", enter);
  click("save-log", () => log.save());
  for (const button of document.querySelectorAll("[data-save-log]")) button.addEventListener("click", () => log.save());
  click("open-settings", () => byId("settings").showModal());
  click("close-settings", () => byId("settings").close());
  byId("settings").addEventListener("click", (event) => event.target === event.currentTarget && event.target.close());
  addEventListener("pagehide", () => room?.goAway());
  addEventListener("pageshow", (event) => event.persisted && location.reload());
  addEventListener("online", () => room?.retry());
  document.addEventListener("visibilitychange", () => {
    if (!room || document.visibilityState !== "visible") return;
    room.retry();
    keepAwake();
  });
}
