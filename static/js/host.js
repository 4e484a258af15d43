// What a host may do to others: remove somebody, lock the room, end it for everybody. Others do not see these controls.

import { ask, setUpConfirm, withdrawQuestion } from "./confirm.js";
import { notify } from "./notices.js";
import { peerAt } from "./tiles.js";
import { byId } from "./views.js";

let current = () => null;
let closing = false;

/** Did this page end the room itself? */
export function closingIsMine() {
  return closing;
}

/** Shows the controls of a host, or hides them, and whether the room is locked. */
export function showHost(room) {
  const isHost = room.role === "host";
  document.body.classList.toggle("host", isHost);
  byId("host").hidden = !isHost;
  byId("lock").checked = room.locked;
  byId("locked").hidden = !room.locked;
}

/** Wires the controls once; `room` gives the room of the moment, or `null`. */
export function setUpHost(room) {
  current = room;
  byId("tiles").addEventListener("click", (event) => {
    const button = event.target.closest(".kick");
    const peer = button && peerAt(button);
    if (peer) ask("kick", peer.name ? "confirm.kick" : "confirm.kick-guest", { name: peer.name }, () => current()?.kick(peer));
  });
  byId("lock").addEventListener("change", () => {
    const { checked } = byId("lock");
    current()?.lock(checked);
    notify(checked ? "notice.locked" : "notice.unlocked");
  });
  byId("close-room").addEventListener("click", () => {
    byId("settings").close();
    ask("close", "confirm.close", {}, () => {
      closing = true;
      current()?.close();
    });
  });
  setUpConfirm();
}

/** A new call: what the last one ended with is over. */
export function resetHost() {
  closing = false;
  document.body.classList.remove("host");
  withdrawQuestion();
}
