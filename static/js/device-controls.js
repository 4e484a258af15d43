// The controls of camera, microphone and screen, and one's own picture: the same on every page with calls.

import { text } from "./i18n.js";
import { notify } from "./notices.js";
import { byId, fillPicker, problemKeys } from "./views.js";

/**
 * Wires the page's controls to `devices`: buttons `data-turn`, pickers `data-pick`, `#screen`, own pictures `data-self`.
 * `changed` is called after each change; `inCall` says whether problems are to be said in a message, too.
 * Returns `refresh()`, for when the language changes.
 */
export function setUpDevices(devices, { changed, inCall }) {
  const refresh = () => {
    showControls(devices);
    showSelf(devices);
    changed();
  };
  devices.addEventListener("change", refresh);
  for (const button of document.querySelectorAll("[data-turn]")) {
    button.addEventListener("click", () => turn(devices, button.dataset.turn, inCall));
  }
  for (const select of document.querySelectorAll("[data-pick]")) {
    select.addEventListener("change", () => devices.pick(select.dataset.pick, select.value));
  }
  byId("screen").addEventListener("click", () => toggleScreen(devices));
  return refresh;
}

function showControls(devices) {
  const { cameras, microphones } = devices;
  for (const select of document.querySelectorAll("[data-pick]")) {
    const kind = select.dataset.pick;
    fillPicker(select, kind === "video" ? cameras : microphones, devices.current(kind));
  }
  for (const button of document.querySelectorAll("[data-turn]")) {
    const kind = button.dataset.turn;
    const on = devices.wanted[kind] && (kind === "audio" ? devices.audio !== null : devices.camera !== null);
    button.setAttribute("aria-pressed", String(on));
  }
  const notice = document.querySelector(".device-problem");
  const keys = problemKeys(devices.problems);
  notice.hidden = keys.length === 0;
  notice.textContent = [...keys, "problem.anyway"].map((key) => text(key)).join(" ");
  byId("screen").hidden = !devices.canShare;
  byId("screen").setAttribute("aria-pressed", String(devices.sharing));
  byId("self-muted").hidden = devices.info.mic;
}

function showSelf(devices) {
  for (const video of document.querySelectorAll("[data-self]")) {
    const track = devices.video;
    const shown = video.srcObject?.getVideoTracks()[0] ?? null;
    if (shown !== track) video.srcObject = track ? new MediaStream([track]) : null;
    video.parentElement.classList.toggle("dark", track === null);
    video.classList.toggle("mirrored", track !== null && !devices.sharing);
  }
}

async function toggleScreen(devices) {
  if (devices.sharing) return devices.unshare();
  try {
    await devices.share();
  } catch (error) {
    // Closing the browser's chooser is no failure.
    if (error.name !== "NotAllowedError") notify("notice.share-failed", {}, { kind: "warn" });
  }
}

async function turn(devices, kind, inCall) {
  const button = document.querySelector(`[data-turn="${kind}"]`);
  await devices.turn(kind, button.getAttribute("aria-pressed") !== "true");
  if (inCall() && devices.problems[kind]) notify(`problem.${kind}.${devices.problems[kind]}`, {}, { kind: "warn" });
}
