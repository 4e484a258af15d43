// What an administrator does: each asks first, then the server.

import { label, say } from "../i18n.js";

const byId = (id) => document.getElementById(id);
let confirmed = null;
let page = null;

/** Wires the dialog. `over` is called when the session is over, `told` with what came of an action. */
export function setUpActions(given) {
  page = given;
  byId("confirm").addEventListener("close", () => {
    const act = confirmed;
    confirmed = null;
    if (byId("confirm").returnValue === "yes") act?.();
  });
  byId("revoke-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const subject = byId("subject").value.trim();
    if (!subject) return byId("subject").focus();
    ask("revoke", { name: subject }, "/api/admin/revoke", { subject }, () => (byId("subject").value = ""));
  });
}

/** Asks whether to do it, and does it: `verb` names the texts. */
export function ask(verb, values, path, body, then = () => {}) {
  confirmed = () => post(verb, values, path, body, then);
  say(byId("confirm-text"), `admin.confirm.${verb}`, values);
  say(byId("confirm-yes"), `admin.confirm.${verb}-yes`);
  byId("confirm").returnValue = "";
  byId("confirm").showModal();
}

/** Does it without a question: what can be undone as easily. */
export async function post(verb, values, path, body, then = () => {}) {
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch(path, { method: "POST", body: JSON.stringify(body), headers }).catch(() => null);
  if (answer?.ok) {
    page.told(`admin.done.${verb}`, values);
    return then();
  }
  if (answer?.status === 401) return page.over();
  if (answer?.status === 404) return page.told("admin.gone", values, { kind: "warn" });
  page.told("admin.not-done", { status: answer?.status ?? "" }, { kind: "warn" });
}

/** A small button that says `key`, and to a screen reader also about whom. */
export function button(key, values, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = "small";
  say(made, `admin.${key}`);
  label(made, `admin.${key}-whom`, values);
  made.dataset.action = key;
  made.addEventListener("click", act);
  return made;
}
