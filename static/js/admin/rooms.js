// The open rooms: calls and streams may be locked and ended.

import { say, text } from "../i18n.js";
import { ask, button, post } from "./actions.js";
import { number } from "./words.js";

const byId = (id) => document.getElementById(id);
const items = new Map();

export function showRooms(rooms) {
  const list = byId("rooms");
  const seen = new Set();
  rooms.rows.forEach((room, index) => {
    // Another lock is another button: the item is made anew.
    const key = JSON.stringify([room.kind, room.name, room.locked]);
    seen.add(key);
    const item = items.get(key) ?? make(key, room);
    const members = text(room.members === 1 ? "admin.member" : "admin.members", { count: number(room.members) });
    if (item.members.textContent !== members) item.members.textContent = members;
    if (list.children[index] !== item.element) list.insertBefore(item.element, list.children[index] ?? null);
  });
  for (const [key, { element }] of items) {
    if (seen.has(key)) continue;
    // Who has just locked a room by the keyboard may want to unlock it.
    const had = element.contains(document.activeElement);
    element.remove();
    items.delete(key);
    if (had) list.querySelector("button")?.focus();
  }
  byId("rooms-none").hidden = rooms.rows.length > 0;
  byId("rooms-found").hidden = rooms.found <= rooms.rows.length;
  say(byId("rooms-found"), "admin.rooms-found", { shown: number(rooms.rows.length), count: number(rooms.found) });
}

function make(key, room) {
  const element = document.createElement("li");
  element.dataset.room = room.name;
  const [words, name, kind, members, buttons] = ["div", "strong", "small", "small", "div"].map((tag) => document.createElement(tag));
  name.textContent = room.name;
  say(kind, `admin.room.${room.kind}${room.locked ? "-locked" : ""}`);
  buttons.className = "buttons";
  words.append(name, kind, members);
  const wish = (action) => ({ kind: room.kind, name: room.name, action });
  const values = { name: room.name };
  const verb = room.locked ? "unlock" : "lock";
  buttons.append(button(verb, values, () => post(verb, values, "/api/admin/room", wish(verb))));
  buttons.append(button("close", values, () => ask("close", values, "/api/admin/room", wish("close"))));
  element.append(words, buttons);
  const item = { element, members };
  items.set(key, item);
  return item;
}
