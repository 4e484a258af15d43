// `/admin`: logs in, and shows what the server tells once a second.

import { addTexts, say, setUpLanguages, text } from "../i18n.js";
import texts from "../lang/admin.js";
import { notify } from "../notices.js";
import { setUpActions } from "./actions.js";
import { showFailures } from "./failures.js";
import { clearOverview, showFigures } from "./overview.js";
import { setUpPeople, showPeople, view } from "./people.js";
import { showRooms } from "./rooms.js";
import { showDraining, showServer } from "./server.js";

/** How long to wait before asking again for a server that does not answer. */
const AGAIN = 2_000;

const byId = (id) => document.getElementById(id);
const last = {};
let source = null;
let again = null;

function show(name) {
  for (const one of ["login", "board"]) byId(one).hidden = one !== name;
  byId("log-out").hidden = name !== "board";
  document.title = `${text("admin.title")} – Relais`;
}

function showLogin(problem = null, values = {}) {
  disconnect();
  const wasIn = !byId("board").hidden;
  show("login");
  byId("login-problem").hidden = !problem;
  byId("token").toggleAttribute("aria-invalid", problem === "admin.problem.token");
  if (problem) say(byId("login-problem"), problem, values);
  if (problem || wasIn) byId("token").focus();
}

async function logIn(event) {
  event.preventDefault();
  const token = byId("token").value.trim();
  if (!token) return showLogin("admin.problem.empty");
  const body = JSON.stringify({ token });
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch("/api/admin/session", { method: "POST", body, headers }).catch(() => null);
  if (!answer) return showLogin("admin.problem.network");
  if (answer.ok) {
    byId("token").value = "";
    return enter();
  }
  const problems = { 401: "token", 403: "https", 429: "often" };
  const seconds = answer.headers.get("retry-after") ?? 60;
  showLogin(`admin.problem.${problems[answer.status] ?? "other"}`, { seconds, status: answer.status });
}

async function logOut() {
  disconnect();
  await fetch("/api/admin/session", { method: "DELETE" }).catch(() => null);
  showLogin();
}

/** The board, with nothing of a session before. */
function enter() {
  clearOverview();
  show("board");
  const title = byId("board").querySelector("h1");
  title.tabIndex = -1;
  title.focus({ preventScroll: true });
  connect();
}

function disconnect() {
  clearTimeout(again);
  source?.close();
  source = null;
}

/** Watches what `view` of people.js asks for. */
function connect() {
  disconnect();
  const { search, page } = view();
  showState("waiting");
  const mine = new EventSource(`/api/admin/events?${new URLSearchParams({ search, page })}`);
  source = mine;
  const on = (name, take) => {
    mine.addEventListener(name, ({ data }) => {
      if (source === mine) take(JSON.parse(data));
    });
  };
  for (const name of Object.keys(PARTS)) {
    on(name, (data) => {
      last[name] = data;
      if (name === "figures") showState("live");
      PARTS[name](data);
    });
  }
  on("over", () => showLogin("admin.problem.over"));
  mine.addEventListener("error", () => {
    if (source !== mine) return;
    showState("lost");
    // Closed: the answer was no stream of events. Otherwise the browser tries again by itself.
    if (mine.readyState === EventSource.CLOSED) again = setTimeout(comeBack, AGAIN);
  });
}

const PARTS = {
  server: showServer,
  figures: (figures) => {
    showFigures(figures);
    showDraining(figures.draining);
  },
  people: ({ people, rooms, search }) => {
    showPeople(people, search);
    showRooms(rooms);
  },
  failures: showFailures,
};

/** The server ended the stream: because the session is over, or because there are too many watchers. */
async function comeBack() {
  const isOpen = await session();
  if (isOpen === false) showLogin("admin.problem.over");
  else connect();
}

/** `null`: the server does not answer. */
async function session() {
  const answer = await fetch("/api/admin/session").catch(() => null);
  return answer?.ok ? (await answer.json()).open : null;
}

function showState(state) {
  byId("dot").dataset.state = state;
  if (byId("state").dataset.text !== `admin.state.${state}`) say(byId("state"), `admin.state.${state}`);
}

/** Everything that was made of numbers and words is made again. */
function languageChanged() {
  document.title = `${text("admin.title")} – Relais`;
  for (const [name, take] of Object.entries(PARTS)) if (last[name] && name !== "figures") take(last[name]);
}

addTexts(texts);
setUpLanguages(languageChanged);
setUpPeople(connect);
setUpActions({ over: () => showLogin("admin.problem.over"), told: notify });
byId("log-in").addEventListener("submit", logIn);
byId("log-out").addEventListener("click", logOut);

if (await session()) enter();
else showLogin();
