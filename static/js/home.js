// The home page: make a room or join one.

import { currentLanguage, say, setUpLanguages, text } from "./i18n.js";
import { showQr } from "./qr.js";
import { isRoomName, randomRoomName, toRoomName, understand } from "./room-name.js";
import { copy, memberLink } from "./share.js";
import { keepToken, takeToken, tokenFor, tokenIn } from "./token.js";

const byId = (id) => document.getElementById(id);
const room = byId("room");
const where = byId("where");
let named = false;

takeToken();
setUpLanguages(() => {
  document.title = text("home.page");
  if (!named) shuffle();
});
document.title = text("home.page");
shuffle();
askServer();

byId("shuffle").addEventListener("click", () => {
  shuffle();
  room.focus();
});
room.addEventListener("input", () => {
  named = true;
  nameChanged();
});
byId("show-qr").addEventListener("click", toggleQr);
byId("copy").addEventListener("click", copyLink);
byId("create").addEventListener("submit", (event) => {
  event.preventDefault();
  go(chosenRoom());
});
byId("join").addEventListener("submit", (event) => {
  event.preventDefault();
  join(where.value);
});
where.addEventListener("input", () => {
  byId("join-problem").hidden = true;
  where.removeAttribute("aria-invalid");
});

function shuffle() {
  named = false;
  room.value = randomRoomName(currentLanguage());
  nameChanged();
}

function chosenRoom() {
  const typed = room.value.trim();
  const name = isRoomName(typed) ? typed : toRoomName(typed);
  room.value = name || randomRoomName(currentLanguage());
  return room.value;
}

function go(name) {
  location.assign(`/call/${encodeURIComponent(name)}`);
}

function join(typed) {
  const target = understand(typed, location.origin);
  if (!target) {
    say(byId("join-problem"), "home.join-problem");
    byId("join-problem").hidden = false;
    where.setAttribute("aria-invalid", "true");
    where.focus();
    return;
  }
  if (target.href) return location.assign(target.href);
  const token = tokenIn(target.hash);
  if (token) keepToken(token);
  if (target.room) return go(target.room);
  where.value = "";
  askServer();
}

async function copyLink() {
  const link = memberLink(chosenRoom());
  try {
    await copy(link);
    say(byId("copied"), "home.copied");
    const words = byId("copy").querySelector("span");
    const icon = byId("copy").querySelector("use");
    say(words, "home.copied");
    icon.setAttribute("href", "#icon-check");
    setTimeout(() => {
      say(words, "home.copy");
      icon.setAttribute("href", "#icon-link");
    }, 2_000);
  } catch {
    // Without the clipboard (plain http) the link can be copied by hand. Without an invite there is no link.
    await link.then(
      (shown) => {
        where.value = shown;
        where.select();
      },
      () => askServer(),
    );
  }
}

/** A stream bears the same name as a call; the code is of one link, and goes with it. */
function nameChanged() {
  const name = toRoomName(room.value) || randomRoomName(currentLanguage());
  byId("go-live").href = `/live/${encodeURIComponent(isRoomName(room.value) ? room.value : name)}/studio`;
  hideQr();
}

function hideQr() {
  byId("qr").hidden = true;
  byId("show-qr").setAttribute("aria-expanded", "false");
}

async function toggleQr() {
  const place = byId("qr");
  if (!place.hidden) return hideQr();
  try {
    const link = await memberLink(chosenRoom());
    place.hidden = false;
    byId("show-qr").setAttribute("aria-expanded", "true");
    await showQr(place, link);
  } catch {
    // Without an invite there is no link.
    askServer();
  }
}

/** Would the server let us in? If not, says what to do before anybody has started a call in vain. */
async function askServer() {
  const notice = byId("invite");
  const token = tokenFor(null);
  let code = null;
  try {
    const answer = await fetch("/api/ice", { headers: token ? { Authorization: `Bearer ${token}` } : {} });
    // An answer that nobody reads keeps its request, and so the loading of the page, open.
    const { code: named } = await answer.json().catch(() => ({}));
    if (answer.status === 401 || answer.status === 403) {
      code = named ?? (token ? "token-invalid" : "token-missing");
    }
  } catch {
    code = "no-server";
  }
  notice.hidden = code === null;
  if (code === null) return;
  const prefix = code === "no-server" ? "home" : "refused";
  const known = ["no-server", "token-missing", "token-invalid", "token-expired"].includes(code) ? code : "token-invalid";
  say(byId("invite-title"), `${prefix}.${known}.title`);
  say(byId("invite-text"), `${prefix}.${known}.text`);
}
