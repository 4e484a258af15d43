// What the studio shows of its state. Knows the document, not the stream.

import { say, text } from "./i18n.js";
import { QUALITIES } from "./studio-media.js";
import { byId, fillPicker, problemKeys } from "./views.js";

/** On or off the air, and the button for the other one. */
export function showAir(since, server) {
  const isLive = since !== null;
  byId("air").dataset.state = isLive ? "live" : server === "joined" ? "off" : "waiting";
  say(byId("air-text"), isLive ? "studio.live" : server === "joined" ? "studio.off" : "studio.connecting");
  byId("air-time").hidden = !isLive;
  byId("go").dataset.state = isLive ? "live" : "off";
  byId("go").disabled = server !== "joined" && !isLive;
  byId("go-icon").setAttribute("href", isLive ? "#icon-stop" : "#icon-live");
  say(byId("go-text"), isLive ? "studio.stop" : "studio.go");
  document.body.dataset.live = String(isLive);
}

/** Keeps the time since it went live. */
export function setClock(since) {
  const show = () => {
    const from = since();
    if (from === null) return;
    const seconds = Math.max(0, Math.round((Date.now() - from) / 1_000));
    const parts = [Math.floor(seconds / 3_600), Math.floor(seconds / 60) % 60, seconds % 60];
    const shown = parts[0] ? parts : parts.slice(1);
    byId("air-time").textContent = shown.map((part, index) => (index ? String(part).padStart(2, "0") : part)).join(":");
  };
  setInterval(show, 500);
}

export function showViewers(room) {
  const count = room?.viewers ?? 0;
  byId("viewers-count").textContent = String(count);
  say(byId("viewers-words"), count === 1 ? "live.viewers.one" : "live.viewers.many", { count });
  const waiting = { 0: "studio.nobody", 1: "studio.waiting.one" }[count] ?? "studio.waiting.many";
  say(byId("no-watchers"), waiting, { count });
}

/** Only a stream that the server knows can be locked. */
export function showLock(room) {
  byId("lock").checked = room?.locked ?? false;
  byId("lock").disabled = room?.state !== "joined";
}

export function showDevices(media) {
  const { devices } = media;
  for (const select of document.querySelectorAll("[data-pick]")) {
    const kind = select.dataset.pick;
    fillPicker(select, kind === "video" ? devices.cameras : devices.microphones, devices.current(kind));
  }
  for (const button of document.querySelectorAll("[data-turn]")) {
    const kind = button.dataset.turn;
    const on = devices.wanted[kind] && (kind === "audio" ? devices.audio !== null : devices.camera !== null);
    button.setAttribute("aria-pressed", String(on));
  }
  byId("screen").hidden = !media.canShare;
  byId("screen").setAttribute("aria-pressed", String(media.sharing));
  const keys = problemKeys(devices.problems);
  const notice = document.querySelector(".device-problem");
  notice.hidden = keys.length === 0;
  notice.textContent = keys.map((key) => text(key)).join(" ");
}

/** The picture as the viewers see it, and in words what they see and hear. */
export function showPreview(media) {
  const video = byId("preview");
  const shown = video.srcObject?.getVideoTracks()[0] ?? null;
  if (shown !== media.video) video.srcObject = media.video ? new MediaStream([media.video]) : null;
  video.parentElement.classList.toggle("dark", media.video === null);
  video.classList.toggle("screen", media.sharing);
  say(byId("what"), `studio.what.${picture(media)}.${sound(media)}`);
}

function picture(media) {
  if (media.sharing) return "screen";
  return media.video ? "camera" : "none";
}

function sound(media) {
  const { mic } = media.info;
  if (media.hasScreenSound) return mic ? "both" : "screen";
  return mic ? "mic" : "none";
}

/** The link as people may read it aloud; its secret part comes with the copy. */
export async function showLink(link) {
  const field = byId("link");
  const shown = await link.catch(() => null);
  if (!shown) return say(field, "copy.no-server");
  delete field.dataset.text;
  field.dataset.empty = "false";
  field.textContent = new URL(shown).host + new URL(shown).pathname;
  field.dataset.hasInvite = String(shown.includes("#t="));
}

export function fillQualities(current) {
  const options = Object.keys(QUALITIES).map((quality) => {
    const one = new Option("", quality);
    say(one, `studio.quality.${quality}`);
    return one;
  });
  byId("quality").replaceChildren(...options);
  byId("quality").value = current;
}
