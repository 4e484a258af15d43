// “Relay only”, before and in the call: a switch, and which way to the relay once it is on.

import { say } from "./i18n.js";
import { RELAY_MODES } from "../relais.js";

/** The mode that the page's address asks for (`?relay=udp`), or `null`. */
export function askedMode(search = location.search) {
  const asked = new URLSearchParams(search).get("relay");
  return RELAY_MODES.includes(asked) ? asked : null;
}

/** Wires every switch of the page; `changed` gets the new mode: `null` or one of RELAY_MODES. */
export function setUpRelay(changed) {
  const switches = [...document.querySelectorAll("[data-relay]")];
  const pickers = [...document.querySelectorAll("[data-relay-mode]")];
  let mode = null;
  let picked = askedMode() ?? "any";
  const show = () => {
    for (const box of switches) box.checked = mode !== null;
    for (const picker of pickers) {
      picker.hidden = mode === null;
      picker.value = picked;
    }
  };
  const take = (wanted) => {
    mode = wanted;
    if (mode) picked = mode;
    show();
  };
  const choose = (wanted) => {
    take(wanted);
    changed(mode);
  };
  for (const picker of pickers) {
    picker.replaceChildren(...RELAY_MODES.map(option));
    picker.addEventListener("change", () => choose(picker.value));
  }
  for (const box of switches) box.addEventListener("change", () => choose(box.checked ? picked : null));
  show();
  return { take };
}

function option(mode) {
  const one = new Option("", mode);
  say(one, `relay.mode.${mode}`);
  return one;
}
