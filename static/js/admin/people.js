// The table of people: peers with what they use of the relay, and credentials of others. Rows are kept from one telling
// to the next, so that a button that has the focus keeps it.

import { say, text } from "../i18n.js";
import { ask, button } from "./actions.js";
import { bits, number, size, span } from "./words.js";

/** How long to wait for the next letter of a search. */
const PAUSE = 250;
const HEADS = ["who", "room", "transport", "addresses", "bytes", "rate", "actions"];

const byId = (id) => document.getElementById(id);
const asked = { search: "", page: 0 };
const rows = new Map();

/** What the server is asked for. */
export function view() {
  return asked;
}

/** Wires search and pages; `changed` is called when something else is to be watched. */
export function setUpPeople(changed) {
  let pause = null;
  byId("search").addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(() => {
      asked.search = byId("search").value.trim();
      asked.page = 0;
      changed();
    }, PAUSE);
  });
  const turn = (step) => {
    asked.page = Math.max(0, asked.page + step);
    changed();
  };
  byId("previous").addEventListener("click", () => turn(-1));
  byId("next").addEventListener("click", () => turn(1));
}

export function showPeople(people, search) {
  asked.page = people.page;
  const body = byId("people").tBodies[0];
  const seen = new Set();
  people.rows.forEach((person, index) => {
    seen.add(person.subject);
    const row = rows.get(person.subject) ?? make(person);
    fill(row, person);
    // Moving a row that stands right already would take the focus from its buttons.
    if (body.rows[index] !== row.element) body.insertBefore(row.element, body.rows[index] ?? null);
  });
  for (const [subject, row] of rows) {
    if (seen.has(subject)) continue;
    row.element.remove();
    rows.delete(subject);
  }
  byId("people").hidden = people.rows.length === 0;
  byId("people-none").hidden = people.rows.length > 0;
  say(byId("people-none"), search ? "admin.people-not-found" : "admin.people-none");
  byId("people-found").hidden = people.rows.length === 0;
  say(byId("people-found"), people.partial ? "admin.people-partial" : "admin.people-found", { count: number(people.found) });
  byId("turn").hidden = people.pages < 2;
  byId("previous").disabled = people.page === 0;
  byId("next").disabled = people.page + 1 >= people.pages;
  byId("page").textContent = `${number(people.page + 1)} / ${number(people.pages)}`;
}

function make(person) {
  const element = document.createElement("tr");
  element.dataset.subject = person.subject;
  const cells = Object.fromEntries(HEADS.map((head) => {
    const cell = document.createElement(head === "who" ? "th" : "td");
    if (head === "who") cell.scope = "row";
    cell.className = head === "bytes" || head === "rate" ? `number ${head}` : head;
    element.append(cell);
    return [head, cell];
  }));
  const [name, more] = [document.createElement("strong"), document.createElement("small")];
  cells.who.append(name, more);
  cells.actions.append(...actions(person));
  const row = { element, cells, name, more };
  rows.set(person.subject, row);
  return row;
}

function fill({ element, cells, name, more }, person) {
  element.classList.toggle("away", person.connected === false);
  element.classList.toggle("idle", person.allocations === 0);
  element.dataset.bytes = person.toPeer + person.toClient;
  for (const head of HEADS) cells[head].dataset.head = text(`admin.${head}`);
  write(name, nameOf(person));
  write(more, moreOf(person));
  write(cells.room, person.room ?? "–");
  write(cells.transport, person.transports.map((one) => one.toUpperCase()).join(", ") || text("admin.no-relay"));
  const kinds = (list) => list.map((kind) => text(`admin.kind.${kind}`)).join(", ") || "–";
  write(cells.addresses, person.allocations > 0 ? `${kinds(person.from)} → ${kinds(person.to)}` : "–");
  write(cells.bytes, person.allocations > 0 ? size(person.toPeer + person.toClient) : "–");
  write(cells.rate, person.allocations > 0 ? bits(person.rate) : "–");
}

function write(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

const nameOf = (person) => person.name || (person.peer ? text("admin.guest") : person.subject);

function moreOf(person) {
  const parts = [];
  if (person.role) parts.push(text(`admin.role.${person.role}`));
  if (person.peer) parts.push(person.peer.slice(0, 6));
  if (person.connected === false) parts.push(text("admin.away"));
  if (person.allocations > 0) {
    const values = { count: number(person.allocations), age: span(person.age) };
    parts.push(text(person.allocations === 1 ? "admin.allocation" : "admin.allocations", values));
  }
  return parts.join(" · ");
}

function actions(person) {
  const name = nameOf(person);
  if (!person.peer) {
    const { subject } = person;
    return [button("revoke", { name }, () => ask("revoke", { name }, "/api/admin/revoke", { subject }))];
  }
  const kick = button("kick", { name }, () => ask("kick", { name }, "/api/admin/kick", { peer: person.peer }));
  if (!person.token) return [kick];
  const { token } = person;
  return [kick, button("revoke-token", { name }, () => ask("revoke-token", { name }, "/api/admin/revoke", { token }))];
}
