// The page that calls by id: one's own id to give away, somebody else's to call.

import { setUpDevices } from "./device-controls.js";
import { Devices } from "./devices.js";
import { DirectCalls } from "./direct-call.js";
import { Figures, wireFigures } from "./figures.js";
import { addTexts, say, setUpLanguages, text } from "./i18n.js";
import texts from "./lang/by-id.js";
import { logConnection, startLog } from "./log.js";
import { clearNotices, notify } from "./notices.js";
import { showQr } from "./qr.js";
import { askedMode } from "./relay-switch.js";
import { startRinging, stopRinging } from "./ring.js";
import { copy } from "./share.js";
import { playAll, removeAll, showStream, showTile } from "./tiles.js";
import { takeToken, tokenFor, tokenRole } from "./token.js";
import { byId, hasText, showRoute, showStatus } from "./views.js";

/** Why a call ended, where there is something to say. */
const ENDINGS = new Set(["nobody", "no-answer", "declined", "missed", "hung-up", "lost"]);
const FIGURES_EVERY = 4;

addTexts(texts);
const wanted = new URLSearchParams(location.hash.slice(1)).get("call");
takeToken();
// A link to call is used once: a reload does not call again.
if (wanted) history.replaceState(history.state, "", location.pathname + location.search);

const token = tokenFor(null);
const log = startLog("call-by-id");
const devices = new Devices();
const figures = new Figures(byId("figures-list"));
const calls = new DirectCalls({ server: location.origin, token, media: devices, info: devices.info, relay: askedMode() });
const refreshDevices = setUpDevices(devices, { changed: () => calls.setInfo(devices.info), inCall: () => calls.state !== "idle" });
let logged = null;
let readings = 0;

setUpLanguages(() => {
  refreshDevices();
  refresh();
});
wireCalls();
wirePage();
begin();

function begin() {
  refresh();
  if (!window.RTCPeerConnection) return refuse("refused.unsupported.title", "refused.unsupported.text");
  if (!window.isSecureContext || !navigator.mediaDevices) return refuse("refused.insecure.title", "refused.insecure.text");
  if (wanted) byId("other").value = wanted;
  presence("connecting");
  calls.connect();
}

function wireCalls() {
  const on = (type, handler) => calls.addEventListener(type, ({ detail }) => handler(detail));
  on("server", ({ state }) => {
    log.add("server", { state });
    presence(state);
  });
  on("id", () => {
    log.add("id", { id: calls.id });
    // A code on show calls the id of before.
    if (!byId("qr").hidden) showQr(byId("qr"), myLink());
    refresh();
  });
  on("refused", ({ code, message }) => {
    log.add("refused", { code, message });
    const known = code === "wrong-room" ? "byid.refused.wrong-room" : hasText(code) && `refused.${code}.text`;
    refuse("byid.refused.title", known || "refused.other.text", { message });
  });
  on("call", () => {
    log.add("call", { state: calls.state, other: calls.other });
    refresh();
  });
  on("problem", (problem) => log.add("problem", problem));
  on("stream", ({ peer }) => showStream(peer));
  on("change", onChange);
  on("ended", ({ reason, other }) => {
    log.add("ended", { reason, other });
    devices.stop();
    removeAll();
    figures.update([]);
    refresh();
    if (ENDINGS.has(reason)) notify(`byid.ended.${reason}`, { id: other }, { id: "ended", kind: reason === "lost" ? "warn" : "info" });
    byId("other").focus();
  });
}

function onChange({ peer, type, detail }) {
  if (logged !== peer.connection) logConnection(log, (logged = peer.connection), peer.id);
  if (type === "trouble") log.add("trouble", detail);
  if (type === "route") log.add("route", peer.route);
  if (!type && readings++ % FIGURES_EVERY === 0) log.add("figures", { state: peer.state, route: peer.route, roundTrip: peer.roundTrip, ...peer.figures });
  if (calls.state === "talking") showTile(peer);
  byId("no-figures").hidden = figures.update([peer]) > 0;
  refresh();
}

async function call(id) {
  clearNotices();
  await devices.open();
  await calls.call(id);
}

async function answer() {
  byId("accept").disabled = true;
  await devices.open();
  await calls.accept();
  byId("accept").disabled = false;
}

/** Everything that follows from the state of the call. */
function refresh() {
  const { state, peer, other, id } = calls;
  const onStage = state === "calling" || state === "talking";
  const moved = byId("stage").hidden === onStage;
  byId("stage").hidden = !onStage;
  for (const part of ["lobby", "page-bar"]) byId(part).hidden = onStage;
  document.body.dataset.view = onStage ? "stage" : "lobby";
  byId("stage").classList.toggle("alone", state === "calling");
  byId("waiting").hidden = state !== "calling";
  byId("called").textContent = other ?? "";
  if (moved && onStage) byId("hang-up").focus();
  ring(state === "ringing");
  byId("my-id").textContent = id ?? "…";
  for (const button of [byId("copy-id"), byId("show-qr")]) button.disabled = id === null;
  showStatus(stateWord());
  showRoute(peer?.state === "connected" ? peer.route : null);
  document.title = text(state === "ringing" ? "byid.page-ringing" : "byid.page");
}

function stateWord() {
  const { state, peer } = calls;
  if (state !== "talking") return "calling";
  const words = { connected: "connected", disconnected: "interrupted", failed: "restarting" };
  return words[peer?.state] ?? "connecting";
}

function ring(isRinging) {
  const dialog = byId("ring");
  if (isRinging) byId("caller").textContent = calls.other;
  if (isRinging === dialog.open) return;
  if (isRinging) {
    clearNotices();
    dialog.showModal();
    startRinging();
  } else {
    dialog.close();
    stopRinging();
  }
}

function presence(state) {
  say(byId("presence-text"), `byid.presence.${state}`);
  byId("presence-dot").dataset.state = { waiting: "unreachable" }[state] ?? state;
}

function refuse(title, key, values = {}) {
  byId("problem").hidden = false;
  say(byId("problem-title"), title);
  say(byId("problem-text"), key, values);
  presence("waiting");
  byId("presence").hidden = true;
}

/** The id in what was typed: the id itself, or a link that calls it. */
function idIn(typed) {
  const trimmed = typed.trim();
  const [, linked] = /#(?:.*&)?call=([^&]+)/.exec(trimmed) ?? [];
  return linked ? decodeURIComponent(linked) : trimmed;
}

/** A host's token is not passed on; whoever has none of their own is told what to do. */
function myLink() {
  const passed = token && tokenRole(token) !== "host" ? `&t=${token}` : "";
  return `${location.origin}/call-by-id#call=${encodeURIComponent(calls.id)}${passed}`;
}

function dial() {
  const id = idIn(byId("other").value);
  const problem = !id ? "empty" : id === calls.id ? "self" : !calls.connected && "offline";
  if (!problem) return call(id);
  say(byId("dial-problem"), `byid.problem.${problem}`);
  byId("dial-problem").hidden = false;
  byId("other").setAttribute("aria-invalid", "true");
  byId("other").focus();
}

async function toggleQr() {
  const place = byId("qr");
  place.hidden = !place.hidden;
  byId("show-qr").setAttribute("aria-expanded", String(!place.hidden));
  if (!place.hidden) await showQr(place, myLink());
}

async function copyMine() {
  try {
    await copy(Promise.resolve(myLink()));
    notify("copied");
  } catch {
    notify("copy.failed", { link: myLink() }, { id: "copy" });
  }
}

function wirePage() {
  const click = (id, handler) => byId(id).addEventListener("click", handler);
  byId("dial").addEventListener("submit", (event) => {
    event.preventDefault();
    dial();
  });
  byId("other").addEventListener("input", () => {
    byId("dial-problem").hidden = true;
    byId("other").removeAttribute("aria-invalid");
  });
  click("copy-id", copyMine);
  click("show-qr", toggleQr);
  click("accept", answer);
  click("decline", () => calls.end());
  // Escape closes a dialog: here it means no.
  byId("ring").addEventListener("cancel", () => calls.end());
  click("hang-up", () => calls.end());
  click("sound", playAll);
  byId("fullscreen").hidden = !document.fullscreenEnabled;
  click("fullscreen", () => (document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen()));
  wireFigures(log, () => calls.peer !== null);
  devices.addEventListener("track", ({ detail }) => calls.setTrack(detail.kind, detail.track));
  addEventListener("pagehide", () => calls.leave());
  addEventListener("pageshow", (event) => event.persisted && location.reload());
  addEventListener("online", () => calls.retry());
}
