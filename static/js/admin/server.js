// What changes seldom: certificates, secrets, sockets, and what an operator should do something about.

import { say, text } from "../i18n.js";
import { icon } from "../notices.js";
import { moment, span } from "./words.js";

/** A certificate that ends sooner is worth a warning, in seconds: renewal should have come before. */
const SOON = 7 * 86_400;

const byId = (id) => document.getElementById(id);

export function showServer(server) {
  const about = { version: server.version, uptime: span(server.uptime) };
  say(byId("about"), `admin.about-${server.access}`, about);
  banner("open", server.openToAll && ["admin.banner.open"]);
  const { certificate, acme, now } = server;
  const left = certificate.until === null ? null : certificate.until - now;
  banner("certificate", left !== null && left < SOON && (left <= 0
    ? ["admin.banner.expired", { when: moment(certificate.until) }]
    : ["admin.banner.expires", { span: span(left) }]));
  banner("acme", acme && acme.failures > 0 && ["admin.banner.acme", {
    since: acme.failingSince ? moment(acme.failingSince) : "?", failures: acme.failures, error: acme.lastError ?? "", next: moment(acme.next),
  }]);
  byId("server").replaceChildren(...facts(server).flat());
}

export function showDraining(isDraining) {
  banner("draining", isDraining && ["admin.banner.draining"]);
}

/** Shows a banner, or takes it away when there is nothing to say. */
function banner(id, words) {
  const box = byId("banners");
  let shown = box.querySelector(`[data-banner="${id}"]`);
  if (!words) return shown?.remove();
  if (!shown) {
    shown = document.createElement("div");
    shown.className = "notice";
    shown.dataset.banner = id;
    shown.append(icon("alert"), document.createElement("p"));
    box.append(shown);
  }
  const [key, values = {}] = words;
  say(shown.lastElementChild, key, values);
}

function facts(server) {
  const { certificate, authority, acme, secrets, sockets, now } = server;
  const age = (seconds) => (seconds === null ? text("admin.fact.unknown") : text("admin.fact.old", { span: span(seconds) }));
  const life = ({ from, until }) => text("admin.fact.life", { age: span(Math.max(0, now - from)), until: moment(until) });
  const list = [fact("certificate", certificate.until === null
    ? text("admin.fact.unknown")
    : `${text(`admin.fact.source-${certificate.source}`)} ${life(certificate)}`)];
  if (authority) list.push(fact("authority", life(authority)));
  if (acme) list.push(fact("acme", text("admin.fact.next", { next: moment(acme.next) })));
  list.push(fact("turn-secret", age(secrets["turn-secret"])), fact("token-key", age(secrets["token-key"])));
  list.push(fact("admin-token", age(secrets["admin-token"])));
  const named = Object.entries(sockets).filter(([, addresses]) => addresses.length > 0);
  list.push(fact("sockets", named.map(([name, addresses]) => `${name.toUpperCase()} ${addresses.join(", ")}`).join("; ")));
  return list;
}

function fact(name, words) {
  const [term, told] = [document.createElement("dt"), document.createElement("dd")];
  say(term, `admin.fact.${name}`);
  told.textContent = words;
  told.id = `fact-${name}`;
  return [term, told];
}
