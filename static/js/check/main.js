// The check page: runs the check, shows what it finds, and hands out the report.

import { addTexts, say, setUpLanguages, text } from "../i18n.js";
import texts from "../lang/check.js";
import { download, logConnection, startLog } from "../log.js";
import { understand } from "../room-name.js";
import { copy } from "../share.js";
import { forgetToken, keepToken, takeToken, tokenFor, tokenIn } from "../token.js";
import { findingsOf, judge } from "./cause.js";
import { setUpDevices } from "./devices.js";
import { askedRoom, setUpWith, translateWith } from "./with.js";
import { reportOf } from "./report.js";
import { showFindings, wayTitle } from "./rows.js";
import { Run, TRANSPORTS } from "./run.js";
import { byId, Qualities, Rows, showProgress } from "./view.js";
import { clauseKey, valuesOf, verdictWords } from "./words.js";

const INVITE_CODES = ["token-missing", "token-invalid", "token-expired", "token-revoked"];

addTexts(texts);
const log = startLog("check");
const rows = { server: new Rows(byId("rows-server")), network: new Rows(byId("rows-network")), ways: new Rows(byId("rows-ways")) };
const qualities = new Qualities(byId("qualities"), byId("quality"));
let run = null;
let verdict = null;
let devices = null;

takeToken();
setUpLanguages(showAll);
setUpDevices((found) => {
  devices = found;
  log.add("devices", found);
});
setUpWith(log);
byId("again").addEventListener("click", () => (isRunning() ? run.stop() : begin()));
byId("copy-report").addEventListener("click", copyReport);
byId("download-report").addEventListener("click", () => download("relais-check.json", reportText()));
byId("save-log").addEventListener("click", () => log.save());
byId("paste").addEventListener("submit", pasted);
byId("with").hidden = false;
if (askedRoom()) {
  byId("verdict").hidden = true;
} else {
  begin();
  byId("parts").hidden = false;
}
document.title = text("check.page");

function isRunning() {
  return run !== null && run.seconds === null;
}

async function begin() {
  const current = new Run({ token: tokenFor(null), made: (connection) => logConnection(log, connection, "check") });
  run = current;
  verdict = null;
  for (const list of Object.values(rows)) list.clear();
  for (const id of ["ice", "signaling", "clock"]) rows.server.expect(id);
  for (const id of ["address", "nat", "outside"]) rows.network.expect(id);
  qualities.clear();
  byId("invite").hidden = true;
  showStatus("running");
  const mine = (handler) => (event) => run === current && handler(event.detail ?? {});
  current.addEventListener("part", mine(({ part }) => showProgress(part)));
  current.addEventListener("stage", mine(({ stage }) => showStage(stage)));
  current.addEventListener("ways", mine(({ ways }) => ways.forEach((way) => showWay(way, "unknown"))));
  current.addEventListener("way", mine(({ way, result }) => showWay(way, result ? (result.ok ? "good" : "failed") : "running")));
  current.addEventListener("told", mine(({ transport, what, value }) => qualities.tell(transport, what, value)));
  current.addEventListener("change", mine(showSeen));
  current.addEventListener("done", mine(finish));
  await current.start();
}

/** Before its cause is known. */
function showWay(way, level) {
  rows.ways.set(way.url, { level, title: wayTitle(way) });
}

function showStage(stage) {
  log.add("stage", stage);
  say(byId("doing"), `check.stage.${stage}`);
}

/** What is known by now. A way's cause may change with what the others show, so all rows are written again. */
function showSeen() {
  const { seen } = run;
  const known = seen.ways.length > 0 || seen.ice ? findingsOf({ ...seen, context: seen.context ?? {} }) : [];
  showFindings(rows, seen, known);
  for (const [transport, result] of Object.entries(seen.passages)) qualities.set(transport, result);
}

function finish() {
  const findings = findingsOf({ ...run.seen, context: run.seen.context ?? {} });
  verdict = { ...judge(findings), findings };
  for (const transport of TRANSPORTS) qualities.set(transport, run.seen.passages[transport] ?? null, run.stopped);
  for (const list of Object.values(rows)) list.settle();
  log.add("seen", { ...run.seen, ice: { ok: run.seen.ice?.ok, skew: run.seen.ice?.skew } });
  log.add("verdict", { status: verdict.status, causes: verdict.causes });
  showProgress(1);
  showVerdict();
  if (run.stopped) say(byId("doing"), "check.stopped");
  else say(byId("doing"), "check.stage.done", { seconds: run.seconds });
  for (const id of ["copy-report", "download-report"]) byId(id).disabled = false;
  askForInvite(run.seen.ice);
  document.body.dataset.checked = verdict.status;
}

function showStatus(status) {
  delete document.body.dataset.checked;
  byId("verdict").dataset.status = status;
  byId("verdict-icon").setAttribute("href", `#icon-${status}`);
  say(byId("verdict-title"), "check.running");
  say(byId("verdict-remedy"), "check.lead");
  byId("also").hidden = true;
  say(byId("again"), "check.stop");
  for (const id of ["copy-report", "download-report"]) byId(id).disabled = true;
}

function showVerdict() {
  const { status, causes, findings } = verdict;
  const facts = run.seen.context?.facts;
  const words = verdictWords(verdict, findings, facts);
  const icons = { good: "good", degraded: "warning", broken: "failed" };
  byId("verdict").dataset.status = status;
  byId("verdict").dataset.causes = causes.join(" ");
  byId("verdict-icon").setAttribute("href", `#icon-${icons[status]}`);
  for (const [id, line] of [["verdict-title", words.title], ["verdict-remedy", words.remedy]]) {
    delete byId(id).dataset.text;
    byId(id).textContent = line;
  }
  const others = causes.slice(1).map((cause) => {
    const item = document.createElement("li");
    const values = valuesOf(cause, findings, facts);
    item.textContent = `${text(clauseKey(cause, facts), values)}. ${text(`check.remedy.${cause}`, values)}`;
    return item;
  });
  byId("also").hidden = others.length === 0;
  byId("also-list").replaceChildren(...others);
  say(byId("again"), "check.again");
}

/** After another language was chosen. */
function showAll() {
  document.title = text("check.page");
  translateWith();
  if (!run) return;
  showSeen();
  qualities.translate();
  if (verdict) showVerdict();
}

function reportText() {
  const words = verdictWords(verdict, verdict.findings, run.seen.context?.facts);
  return JSON.stringify({ ...reportOf(run, verdict, verdict.findings, words), devices }, null, 1);
}

async function copyReport() {
  const done = byId("doing");
  try {
    await copy(Promise.resolve(reportText()));
    say(done, "check.copied");
  } catch {
    say(done, "check.copy-failed");
  }
}

/** Without an invitation nothing can be checked: says so, and takes one. */
function askForInvite(ice) {
  const code = ice?.ok === false && ice.code !== "no-answer" ? ice.code : null;
  byId("invite").hidden = code === null;
  if (code === null) return;
  const known = INVITE_CODES.includes(code) ? code : "token-invalid";
  if (known !== "token-missing") forgetToken(tokenFor(null));
  say(byId("invite-title"), `refused.${known}.title`);
  say(byId("invite-text"), `refused.${known}.text`);
}

function pasted(event) {
  event.preventDefault();
  const target = understand(byId("paste-link").value, location.origin);
  const token = target?.hash && tokenIn(target.hash);
  byId("paste-link").setAttribute("aria-invalid", String(!token));
  if (!token) return byId("paste-link").focus();
  keepToken(token);
  begin();
}
