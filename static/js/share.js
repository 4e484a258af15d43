// The link for somebody else. Who got in by a host's token does not pass that on: the server makes a member's invite.

import { notify } from "./notices.js";
import { join } from "../relais.js";
import { linkTo, tokenFor, tokenRole } from "./token.js";

/** How long to wait for a room of which only an invite is wanted. */
const JOIN_WITHIN = 10_000;

/**
 * The link that lets somebody else into a room, as a member. `room` is the room that this page is in; without it a host
 * looks in for a moment. Rejected when the server cannot be asked.
 */
export async function memberLink(name, room = null) {
  const token = tokenFor(name);
  if (room?.role === "host" || tokenRole(token) === "host") {
    const invite = room ? await room.invite({ role: "member" }) : await inviteFromOutside(name, token);
    return linkTo(name, invite.token);
  }
  return linkTo(name, token);
}

export async function copyLink(name, room) {
  const link = memberLink(name, room);
  try {
    await copy(link);
    notify("copied");
  } catch {
    await link.then(
      (shown) => notify("copy.failed", { link: shown }, { id: "copy" }),
      () => notify("copy.no-server", {}, { kind: "warn" }),
    );
  }
}

export async function shareLink(name, room) {
  try {
    await navigator.share({ title: name, url: await memberLink(name, room) });
  } catch (error) {
    // Closing the system's chooser is no failure.
    if (error.name !== "AbortError") notify("copy.no-server", {}, { kind: "warn" });
  }
}

/** Safari lets a page write only while it handles the click, but takes a promise for what is written. */
export async function copy(promise) {
  if (!window.ClipboardItem) return navigator.clipboard.writeText(await promise);
  const blob = promise.then((text) => new Blob([text], { type: "text/plain" }));
  await navigator.clipboard.write([new ClipboardItem({ "text/plain": blob })]);
}

async function inviteFromOutside(name, token) {
  const room = join(name, { server: location.origin, token });
  let late;
  try {
    await new Promise((resolve, reject) => {
      late = setTimeout(() => reject(new Error("the server does not answer")), JOIN_WITHIN);
      room.addEventListener("joined", resolve);
      room.addEventListener("closed", ({ detail }) => reject(new Error(detail.message)));
    });
    return await room.invite({ role: "member" });
  } finally {
    clearTimeout(late);
    room.leave();
  }
}
