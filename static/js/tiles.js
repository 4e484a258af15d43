// The pictures of the others: one tile per link, laid out by their number.

import { label, say, text } from "./i18n.js";
import { byId } from "./views.js";

const tiles = new Map();
let firstFrame = false;

/** Makes a tile for a peer, or brings the one it has up to date. */
export function showTile(peer) {
  const tile = tiles.get(peer) ?? makeTile(peer);
  const name = peer.name || text("someone");
  tile.querySelector(".name").textContent = name;
  label(tile.querySelector(".kick"), "control.kick", { name });
  tile.querySelector(".initial").textContent = [...name][0].toUpperCase();
  tile.querySelector(".muted-mark").toggleAttribute("hidden", peer.info.mic !== false);
  const state = tile.querySelector(".tile-state");
  const word = stateWord(peer);
  if (word) say(state, `tile.${word}`);
  else delete state.dataset.text;
  if (!word) state.textContent = "";
  tile.classList.toggle("screen", peer.info.screen === true);
  tile.classList.toggle("dark", peer.info.camera === false && peer.info.screen === false);
  tile.classList.toggle("stalled", peer.state !== "connected");
  count();
}

/** What is to be said of a tile besides the name, `null` when all is well. */
function stateWord(peer) {
  if (!peer.connected) return "away";
  if (peer.state === "connected") return null;
  if (peer.state === "disconnected") return "interrupted";
  return peer.state === "failed" ? "failed" : "connecting";
}

/** Shows the stream of a peer; a browser that wants a tap before sound gets a button. */
export async function showStream(peer) {
  showTile(peer);
  const video = tiles.get(peer).querySelector("video");
  if (video.srcObject !== peer.stream) {
    video.srcObject = peer.stream;
    markFirstFrame(video);
  }
  try {
    await video.play();
  } catch (error) {
    if (error.name === "NotAllowedError") byId("sound").hidden = false;
  }
}

/** After the tap. */
export function playAll() {
  byId("sound").hidden = true;
  for (const tile of tiles.values()) tile.querySelector("video").play().catch(() => {});
}

export function removeTile(peer) {
  const tile = tiles.get(peer);
  if (!tile) return;
  tile.querySelector("video").srcObject = null;
  tile.remove();
  tiles.delete(peer);
  count();
}

export function removeAll() {
  for (const peer of [...tiles.keys()]) removeTile(peer);
  firstFrame = false;
}

/** The one whose tile this element lies in. */
export function peerAt(element) {
  const tile = element.closest(".tile");
  return [...tiles].find(([, own]) => own === tile)?.[0] ?? null;
}

function makeTile(peer) {
  const tile = byId("tile").content.firstElementChild.cloneNode(true);
  tiles.set(peer, tile);
  byId("tiles").append(tile);
  return tile;
}

/** The style sheet lays the tiles out by how many there are, and by whether somebody shows a screen. */
function count() {
  for (const id of ["tiles", "pictures"]) byId(id).dataset.count = String(tiles.size);
  byId("pictures").classList.toggle("presenting", byId("tiles").querySelector(".screen") !== null);
}

/** From the click to the first picture is what a call feels like; it can be read in the performance tools. */
function markFirstFrame(video) {
  if (firstFrame) return;
  const mark = () => {
    if (!firstFrame) performance.mark("relais:first-frame");
    firstFrame = true;
  };
  if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(mark);
  else video.addEventListener("loadeddata", mark, { once: true });
}
