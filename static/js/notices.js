// Short messages over the page. They carry their key, so they follow the language.

import { label, say } from "./i18n.js";

const SHOWN_FOR = 4_500;
const box = document.getElementById("notices");

/** Shows a message; with `id` it replaces the one of that id and stays until `unnotify(id)` or its cross. */
export function notify(key, values = {}, { id = null, kind = "info" } = {}) {
  // Said once is enough, for the ear above all.
  const same = id && box.querySelector(`[data-id="${id}"]`)?.firstElementChild;
  if (same?.dataset.text === key) return;
  if (id) unnotify(id);
  const notice = document.createElement("div");
  notice.className = `toast ${kind}`;
  if (id) notice.dataset.id = id;
  const words = document.createElement("p");
  say(words, key, values);
  notice.append(words);
  if (id) notice.append(cross(notice));
  else setTimeout(() => notice.remove(), SHOWN_FOR);
  box.append(notice);
}

/** Takes the message of that id away; was there one? */
export function unnotify(id) {
  const notice = box.querySelector(`[data-id="${id}"]`);
  notice?.remove();
  return notice !== null;
}

export function clearNotices() {
  box.replaceChildren();
}

function cross(notice) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "quiet";
  label(button, "settings.close");
  button.append(icon("close"));
  button.addEventListener("click", () => notice.remove());
  return button;
}

/** A picture of the page's own sprite: it is there when the server is not. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}
