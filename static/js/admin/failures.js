// The latest failures, each with its cause in a sentence.

import { text } from "../i18n.js";
import { clock, number } from "./words.js";

const METHODS = {
  allocate: "Allocate", refresh: "Refresh", create_permission: "CreatePermission", channel_bind: "ChannelBind",
  connect: "Connect", connection_bind: "ConnectionBind", binding: "Binding", other: "?",
};

export function showFailures(failures) {
  document.getElementById("failures-none").hidden = failures.length > 0;
  document.getElementById("failures").replaceChildren(...failures.map(item));
}

function item(failure) {
  const element = document.createElement("li");
  element.dataset.cause = failure.cause;
  const [words, cause, detail, time, count] = ["div", "span", "small", "time", "span"].map((tag) => document.createElement(tag));
  cause.textContent = sentence(failure.cause);
  detail.textContent = failure.detail ?? "";
  time.dateTime = new Date(failure.last * 1000).toISOString();
  time.textContent = clock(failure.last);
  count.className = "count";
  count.textContent = failure.count > 1 ? `×\u00a0${number(failure.count)}` : "";
  words.append(cause, ...(failure.detail ? [detail] : []));
  element.append(time, words, count);
  return element;
}

/** `turn.allocate.486.udp` and its like carry their particulars; other causes are texts as they stand. */
function sentence(cause) {
  const [part, method, code, transport] = cause.split(".");
  if (part !== "turn" || !code) {
    const known = text(`cause.${cause}`);
    return known === `cause.${cause}` ? text("cause.other", { cause }) : known;
  }
  const values = { method: METHODS[method] ?? method, code, transport: transport.toUpperCase() };
  const known = text(`cause.turn.${code}`, values);
  const why = known === `cause.turn.${code}` ? text("cause.turn.any") : known;
  return text("cause.turn", { ...values, why });
}
