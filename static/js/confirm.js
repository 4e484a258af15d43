// One question before what cannot be undone: the page's dialog `#confirm`, with `#confirm-text` and `#confirm-yes`.

import { say } from "./i18n.js";
import { byId } from "./views.js";

let confirmed = null;

/** Wires the dialog once. */
export function setUpConfirm() {
  byId("confirm").addEventListener("close", () => {
    const { returnValue } = byId("confirm");
    const act = confirmed;
    confirmed = null;
    if (returnValue === "yes") act?.();
  });
}

/** Asks the text of `key`; the button says `confirm.{verb}-yes`, and `act` is done when it is pressed. */
export function ask(verb, key, values, act) {
  confirmed = act;
  say(byId("confirm-text"), key, values);
  say(byId("confirm-yes"), `confirm.${verb}-yes`);
  byId("confirm").returnValue = "";
  byId("confirm").showModal();
}

/** What was asked about is over. */
export function withdrawQuestion() {
  if (byId("confirm").open) byId("confirm").close("");
}
