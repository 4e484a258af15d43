// Calls in any page: import { join } from "https://HOST/relais.js". No DOM; PROTOCOL.md describes it.

import { Room } from "./relais/room.js";

export { RELAY_MODES } from "./relais/ice.js";

/**
 * Joins a room and calls everybody in it.
 *
 * @param {string} room 1 to 64 characters of `A-Z a-z 0-9 . _ ~ -`
 * @param {object} [options]
 * @param {string} [options.token] what an invite link carries behind `#t=`; needed unless the server is open
 * @param {MediaStream} [options.media] what to send; without it this page only receives. Our own pages give an object
 *   `{ audio, video, stream }` instead, which is read again for each new peer
 * @param {string} [options.name] shown to the others, up to 64 characters
 * @param {object} [options.info] any JSON object; the others find it as `peer.info`
 * @param {"any" | "udp" | "tcp" | "tls" | null} [options.relay] go through the relay, by this transport
 * @param {"streamer" | "viewer"} [options.stream] the room is a stream, and this is what the page is in it
 * @param {boolean} [options.held] a streamer that sends nothing before `begin()`
 * @param {string} [options.server] origin of the server; default: where this module comes from
 * @param {string} [options.instance] an id of this page that survives a restart of the server; default: random
 * @param {string} [options.session] `ticket.session` of the room that this page had before it was reloaded
 * @param {number} [options.seq] `ticket.seq` of the same
 * @returns {Room} at once; `joined`, or `closed` with the reason, comes as an event
 */
export function join(room, options = {}) {
  const server = options.server ?? new URL(import.meta.url).origin;
  const joined = new Room({ ...options, room, server, instance: options.instance ?? randomId() });
  // After this turn, so that the page can listen to everything.
  queueMicrotask(() => joined.join());
  return joined;
}

/** Pages that are not secure have no `randomUUID`. */
function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
