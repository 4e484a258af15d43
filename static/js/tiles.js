// The pictures of the others: one tile per link, laid out by their number.

import { say, text } from "./i18n.js";
import { byId } from "./views.js";

const tiles = new Map();
let firstFrame = false;

/** Makes a tile for a link, or brings the one it has up to date. */
export function showTile(link) {
  const tile = tiles.get(link) ?? makeTile(link);
  const name = link.name || text("someone");
  tile.querySelector(".name").textContent = name;
  tile.querySelector(".initial").textContent = [...name][0].toUpperCase();
  tile.querySelector(".muted-mark").toggleAttribute("hidden", link.info.mic !== false);
  const state = tile.querySelector(".tile-state");
  if (link.connected) state.textContent = "";
  else say(state, "tile.away");
  if (link.connected) delete state.dataset.text;
  tile.classList.toggle("screen", link.info.screen === true);
  tile.classList.toggle("dark", link.info.camera === false && link.info.screen === false);
  tile.classList.toggle("stalled", link.state !== "connected");
}

/** Shows the stream of a link; a browser that wants a tap before sound gets a button. */
export async function showStream(link) {
  showTile(link);
  const video = tiles.get(link).querySelector("video");
  if (video.srcObject !== link.stream) {
    video.srcObject = link.stream;
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

export function removeTile(link) {
  const tile = tiles.get(link);
  if (!tile) return;
  tile.querySelector("video").srcObject = null;
  tile.remove();
  tiles.delete(link);
  count();
}

export function removeAll() {
  for (const link of [...tiles.keys()]) removeTile(link);
  firstFrame = false;
}

function makeTile(link) {
  const tile = byId("tile").content.firstElementChild.cloneNode(true);
  tiles.set(link, tile);
  byId("tiles").append(tile);
  count();
  return tile;
}

function count() {
  byId("tiles").dataset.count = String(tiles.size);
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
