// “Test with someone”: a link makes another device join a room where both use the relay alone; each measures, and each
// shows what both measured.

import { join } from "../../relais.js";
import { readRoute } from "../../relais/stats.js";
import { say, text } from "../i18n.js";
import { logConnection } from "../log.js";
import { randomRoomName } from "../room-name.js";
import { showQr } from "../qr.js";
import { copy } from "../share.js";
import { tokenFor, tokenRole, tokenRoom } from "../token.js";
import { answer, measureQuality, measureRate, openChannels, opened, warmUp } from "./measure.js";
import { byId, figureWords } from "./view.js";

/** No connection after this long: there is no way. */
const CONNECT_WITHIN = 20_000;
/** One device measures after the other; this one waits no longer for the other's turn to end. */
const TURN_WITHIN = 15_000;
const ROWS = ["browser", "way", "rtt", "jitter", "loss", "rate"];

let log;
let room = null;
let peer = null;
let channels = null;
let mine = {};
let link = null;
let picture = null;
let busy = false;
/** Connections whose course is in the log. */
const logged = new WeakSet();

/** The room in the address of a page that was opened by a link, else `null`. */
export function askedRoom() {
  return new URLSearchParams(location.search).get("with");
}

export function setUpWith(pageLog) {
  log = pageLog;
  byId("with-start").addEventListener("click", () => start(`check-${randomRoomName("en")}`));
  byId("with-copy").addEventListener("click", copyLink);
  byId("with-share").addEventListener("click", () => navigator.share({ title: text("check.part.with"), url: link }).catch(() => {}));
  byId("with-relay").addEventListener("change", ({ target }) => changeRelay(target.value));
  byId("with-again").addEventListener("click", again);
  byId("with-picture").addEventListener("click", togglePicture);
  byId("with-end").addEventListener("click", () => end());
  addEventListener("pagehide", () => room?.goAway());
  if (!askedRoom()) return;
  byId("with-alone").hidden = false;
  say(byId("with-text"), "check.with.text.joined");
  start(askedRoom());
}

/** After another language was chosen. */
export function translateWith() {
  showResults();
}

function start(name) {
  const token = tokenFor(name);
  // A guest of one room cannot open another one.
  if (token && tokenRole(token) !== "host" && ![name, "*"].includes(tokenRoom(token))) return tell("check.with.one-room");
  mine = { browser: browserName() };
  const media = { audio: null, video: null, stream: new MediaStream(), set(kind, track) { media[kind] = track; } };
  room = join(name, { token, relay: byId("with-relay").value, media, info: { check: mine } });
  byId("with-start").hidden = true;
  byId("with-controls").hidden = false;
  tell("check.with.joining");
  on("joined", () => joined(name, token));
  on("peer", ({ peer: other }) => meet(other));
  on("stream", ({ peer: other, stream }) => other === peer && showPicture(stream));
  on("change", ({ peer: other }) => other === peer && follow());
  on("peer-left", ({ peer: other }) => other === peer && lose());
  on("closed", ({ code, message }) => {
    end();
    tell("check.with.closed", { reason: message ?? code });
  });
}

function on(type, handler) {
  const current = room;
  current.addEventListener(type, ({ detail }) => {
    log.add(`with-${type}`, { state: detail?.peer?.state, code: detail?.code });
    if (room === current) handler(detail ?? {});
  });
}

async function joined(name, token) {
  if (!peer) tell("check.with.waiting");
  if (askedRoom()) return;
  const invite = room.role === "host" ? (await room.invite({ role: "member" }).catch(() => null))?.token : token;
  link = `${location.origin}/check?with=${encodeURIComponent(name)}${invite ? `#t=${invite}` : ""}`;
  byId("with-address").textContent = link;
  byId("with-link").hidden = false;
  byId("with-share").hidden = typeof navigator.share !== "function";
  showQr(byId("with-qr"), link);
}

function meet(other) {
  // Two are enough: a third is nobody's concern here.
  if (peer) return;
  peer = other;
  channels = null;
  byId("with-link").hidden = true;
  tell("check.with.connecting");
  follow();
  setTimeout(() => {
    if (peer === other && other.state !== "connected") tell("check.with.failed");
  }, CONNECT_WITHIN);
}

/**
 * The connection of the peer may be another one than before. Its channels are opened when it stands: one more of them before
 * would make this side negotiate, too.
 */
function follow() {
  if (!logged.has(peer.connection)) {
    logged.add(peer.connection);
    logConnection(log, peer.connection, "with");
  }
  if (channels?.connection !== peer.connection && peer.state === "connected") {
    const { connection } = peer;
    channels = { connection, ...openChannels(connection) };
    answer(channels);
    const opening = channels;
    opened(channels).then(() => channels === opening && measure());
  }
  showPicture(peer.stream);
  showResults();
}

/** The newcomer measures first, then the other: both at once would take each other's line. */
async function measure() {
  if (busy) return;
  busy = true;
  byId("with-again").disabled = true;
  const current = channels;
  try {
    if (!peer.polite) {
      tell("check.with.turn");
      await theirTurn(current);
    }
    if (!(await warmUp(current))) return;
    tell("check.with.measuring");
    const quality = await measureQuality(current);
    const mbps = await measureRate(current);
    if (channels !== current) return;
    const route = readRoute(await current.connection.getStats());
    share({ ...quality, mbps, way: route?.relay ?? route?.local ?? null, done: true });
    if (peer.polite) await theirTurn(current);
    if (channels === current) tell("check.with.done");
    document.body.dataset.tested = "yes";
  } finally {
    busy = false;
    byId("with-again").disabled = peer === null;
    showResults();
    if (channels && channels !== current && channels.probe.readyState === "open") measure();
  }
}

/** Resolves when the other device has told its results, or is too slow. */
async function theirTurn(current) {
  const limit = performance.now() + TURN_WITHIN;
  while (channels === current && performance.now() < limit && !peer?.info?.check?.done) {
    await new Promise((done) => setTimeout(done, 100));
  }
}

function share(results) {
  mine = { ...mine, ...results };
  room.setInfo({ check: mine });
  log.add("with-results", mine);
}

function again() {
  if (!channels || busy) return;
  measure();
}

function changeRelay(mode) {
  if (!room) return;
  share({ done: false });
  room.setRelay(mode);
  if (room.usableServers === 0) tell("relay.none");
  else if (peer) tell("check.with.connecting");
}

function lose() {
  peer = null;
  channels = null;
  showPicture(null);
  byId("with-again").disabled = true;
  tell("check.with.left");
}

function end() {
  const current = room;
  room = null;
  peer = null;
  channels = null;
  current?.leave();
  stopPicture();
  showPicture(null);
  for (const id of ["with-link", "with-controls", "with-table", "with-said"]) byId(id).hidden = true;
  byId("with-start").hidden = false;
  byId("with-start").focus();
}

function tell(key, values = {}) {
  const said = byId("with-said");
  said.hidden = false;
  say(said, key, values);
}

/** Both devices side by side. */
function showResults() {
  const theirs = peer?.info?.check ?? {};
  const isMeasured = mine.rtt !== undefined || theirs.rtt !== undefined;
  byId("with-table").hidden = !room || !isMeasured;
  if (!room || !isMeasured) return;
  const columns = [
    { browser: mine.browser, way: wayWords(mine.way), ...figureWords(mine) },
    { browser: String(theirs.browser ?? "–"), way: wayWords(theirs.way), ...figureWords(numbersOf(theirs)) },
  ];
  const cell = (tag, content) => Object.assign(document.createElement(tag), { textContent: content ?? "–" });
  byId("with-results").replaceChildren(
    ...ROWS.map((row) => {
      const line = document.createElement("tr");
      line.dataset.row = row;
      const isFigure = !["browser", "way"].includes(row);
      const head = cell("th", text(isFigure ? `check.quality.${row}` : `check.with.row.${row}`));
      head.scope = "row";
      line.append(head, ...columns.map((column) => cell("td", column[row])));
      return line;
    }),
  );
}

/** What the other page says of itself is anybody's word: numbers, or nothing. */
function numbersOf(info) {
  const wanted = ["rtt", "jitter", "loss", "mbps"].map((name) => [name, info[name]]);
  return Object.fromEntries(wanted.filter(([, value]) => typeof value === "number"));
}

function wayWords(way) {
  return typeof way === "string" ? way.toUpperCase() : "–";
}

async function copyLink() {
  try {
    await copy(Promise.resolve(link));
    tell("check.with.copied");
  } catch {
    tell("copy.failed", { link });
  }
}

async function togglePicture() {
  if (picture) return stopPicture();
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 } } });
    [picture] = stream.getVideoTracks();
    await room?.setTrack("video", picture);
    share({ picture: true });
    markPicture();
  } catch {
    tell("problem.video.failed");
  }
}

function stopPicture() {
  picture?.stop();
  picture = null;
  room?.setTrack("video", null);
  if (room) share({ picture: false });
  markPicture();
}

function markPicture() {
  const button = byId("with-picture");
  button.setAttribute("aria-pressed", String(picture !== null));
  say(button, picture ? "check.with.no-picture" : "check.with.picture");
}

/** Shows what the other device sends, while it says that it does: a track that ends is not told in every browser. */
function showPicture(stream) {
  const video = byId("with-video");
  if (video.srcObject !== stream) video.srcObject = stream;
  video.hidden = peer?.info?.check?.picture !== true;
}

/** `Chromium 150`: enough to tell the devices apart. */
function browserName() {
  const match = /(Firefox|Edg|OPR|Chrome|Version)\/(\d+)/.exec(navigator.userAgent);
  const names = { Edg: "Edge", OPR: "Opera", Version: "Safari", Chrome: "Chromium" };
  return match ? `${names[match[1]] ?? match[1]} ${match[2]}` : "–";
}
