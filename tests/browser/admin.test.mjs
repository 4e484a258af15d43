// `/admin`: logs in, sees a relayed call with its bytes, ends it, and presses every button, in both languages and sizes.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { dirname, join as path } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { accessible } from "./support/axe.mjs";
import { DESKTOP, PHONE, startBrowser } from "./support/browser.mjs";
import { enter, look, newRoom, picturesArriveOnBoth, says } from "./support/call.mjs";
import { startServer } from "./support/server.mjs";

const SHOTS = process.env.SHOTS_DIR ?? fileURLToPath(new URL("../../target/shots", import.meta.url));

let server;
let token;
let admin;
let page;

before(async () => {
  mkdirSync(SHOTS, { recursive: true });
  server = await startServer({ access: "invite" }, "[limits]\npeers_per_room = 4\n");
  token = readFileSync(path(dirname(server.ca), "admin-token"), "utf8").trim();
  admin = await startBrowser({ ca: server.ca });
  page = await admin.page();
});

after(async () => {
  await admin?.close();
  await server?.stop();
});

/** The board as it is now: at both sizes, light and dark, nothing sticks out, and nothing serious is found. */
async function photograph(name) {
  for (const [size, viewport, colorScheme] of [["phone", PHONE, "dark"], ["desktop", DESKTOP, "light"]]) {
    await page.setViewportSize(viewport);
    await page.emulateMedia({ colorScheme });
    await page.screenshot({ path: path(SHOTS, `${size}-admin-${name}.png`) });
    if (await page.locator("#people-title").isVisible()) {
      await page.evaluate(() => document.querySelector("#people-title").scrollIntoView());
      await page.screenshot({ path: path(SHOTS, `${size}-admin-${name}-people.png`) });
      await page.evaluate(() => window.scrollTo(0, 0));
    }
    const [wide, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(wide <= window, `${name} is ${wide} wide in a window of ${window}`);
    await accessible(page, `admin, ${name}, ${size}`);
  }
  await page.setViewportSize(DESKTOP);
}

async function logIn(secret = token) {
  await page.fill("#token", secret);
  await page.click("#log-in .primary");
}

const row = (name) => page.locator("#people tbody tr", { hasText: name });
const toast = (text) => page.locator(".toast", { hasText: text }).waitFor();

async function confirm(question) {
  await page.locator("#confirm[open]", { hasText: question }).waitFor();
  await page.click("#confirm-yes");
}

/** A page in a call; joins as who came by the token. */
async function guest(browser, room, name, query = "") {
  const made = await browser.page();
  await made.goto(server.link(room, query));
  await enter(made, name);
  return made;
}

test("a wrong token is refused in words, the right one opens the board", async () => {
  await page.goto(`${server.origin}/admin`);
  await page.locator("#login h1", { hasText: "Administration" }).waitFor();
  await page.click("#log-in .primary");
  await page.locator("#login-problem", { hasText: "Enter the admin token." }).waitFor();
  await photograph("login");
  await logIn("wrong");
  await page.locator("#login-problem", { hasText: "not the admin token" }).waitFor();
  assert.deepEqual(admin.messages.splice(0).filter((one) => !one.includes("401")), [], "the refusal and nothing else");
  await logIn();
  await page.locator("#dot[data-state=live]").waitFor();
  await page.locator("#people-none", { hasText: "Nobody is here." }).waitFor();
  await page.locator("#failures li[data-cause='access.login-refused']").waitFor();
  assert.match(await page.locator("#about").textContent(), /^Relais [\d.]+, running for .+, by invitation$/);
  for (const fact of ["certificate", "authority"]) {
    assert.match(await page.locator(`#fact-${fact}`).textContent(), /\d (second|minute)s? old.*good until/, "made just now, though valid from yesterday");
  }
  assert.equal(await page.evaluate(() => document.cookie), "", "no script reads the session");
  assert.ok(!page.url().includes(token));
  // It is still there after a reload, without another log-in.
  await page.reload();
  await page.locator("#dot[data-state=live]").waitFor();
});

test("a relayed call is in the table, its bytes grow, and a kick from there ends it", async () => {
  const [ada, bob] = await Promise.all([startBrowser({ ca: server.ca }), startBrowser({ ca: server.ca })]);
  try {
    const room = newRoom();
    const pages = [await guest(ada, room, "Ada", "?relay=udp")];
    await says(pages[0], "alone");
    pages.push(await guest(bob, room, "Bob", "?relay=udp"));
    await picturesArriveOnBoth(...pages);
    assert.equal((await look(pages[1])).local.type, "relay");
    await row("Bob").locator("td.transport", { hasText: "UDP" }).waitFor();
    const bytes = async () => Number(await row("Bob").getAttribute("data-bytes"));
    await page.waitForFunction(() => [...document.querySelectorAll("#people tbody tr")].some((one) => Number(one.dataset.bytes) > 0), null, { polling: 50 });
    const earlier = await bytes();
    const subject = await row("Bob").getAttribute("data-subject");
    await page.waitForFunction(
      ([name, least]) => Number(document.querySelector(`[data-subject="${name}"]`).dataset.bytes) > least + 20_000,
      [subject, earlier], { polling: 50 },
    );
    assert.match(await row("Bob").locator("td.rate").textContent(), /[1-9].*bit\/s/);
    assert.match(await row("Bob").locator("td.addresses").textContent(), /(private|public) → .*this relay/);
    assert.equal(await row("Ada").locator("td.room").textContent(), room);
    await page.locator("#card-traffic .value", { hasText: "bit/s" }).waitFor();
    assert.match(await page.locator("#card-allocations .more").textContent(), /UDP [1-9]/);
    await page.locator("#card-load meter").first().waitFor();
    await photograph("call");

    await row("Bob").locator("[data-action=kick]").click();
    await page.click("#confirm [value=no]");
    assert.equal(await pages[1].locator("#refused").isVisible(), false, "asked, and answered no");
    await row("Bob").locator("[data-action=kick]").click();
    await page.locator("#confirm[open]", { hasText: "Remove Bob from the room?" }).waitFor();
    await photograph("question");
    // Within a second where the machine has time for it.
    const shut = pages[1].locator("#refused[data-code=kicked]").waitFor(process.env.RELAIS_LONG ? { timeout: 1_000 } : {});
    await page.evaluate(() => document.querySelector("#confirm-yes").click());
    await shut;
    await toast("Bob was removed");
    const ended = () => server.entries.filter((entry) => entry.message === "allocation ended" && entry.subject === subject);
    await row("Bob").waitFor({ state: "detached" });
    assert.deepEqual(ended().map(({ reason }) => reason), ["Revoked"]);

    const item = page.locator(`#rooms li[data-room="${room}"]`);
    await item.locator("[data-action=lock]").click();
    await toast(`${room} is locked`);
    await item.locator("small", { hasText: "Call, locked" }).waitFor();
    await pages[0].locator("#locked").waitFor();
    await item.locator("[data-action=unlock]").click();
    await item.locator("small", { hasText: /^Call$/ }).waitFor();
    await row("Ada").locator("[data-action=revoke-token]").waitFor();
    await item.locator("[data-action=close]").click();
    await confirm(`End ${room} for everybody?`);
    await pages[0].locator("#refused[data-code=room-closed]").waitFor();
    await page.locator("#rooms-none").waitFor();
  } finally {
    await Promise.all([ada.close(), bob.close()]);
  }
});

test("many people: pages, a search, an invite and a subject taken back", async () => {
  const guests = await joinMany(27);
  await page.setViewportSize(PHONE);
  await page.locator("#page", { hasText: "1 / 2" }).waitFor();
  assert.equal(await page.locator("#people tbody tr").count(), 25);
  await page.click("#next");
  await page.locator("#page", { hasText: "2 / 2" }).waitFor();
  assert.equal(await page.locator("#next").isDisabled(), true);
  await page.click("#previous");
  await page.locator("#page", { hasText: "1 / 2" }).waitFor();
  await page.fill("#search", "GUEST 13");
  await page.waitForFunction(() => document.querySelectorAll("#people tbody tr").length === 1, null, { polling: 50 });
  await row("Guest 13").waitFor();
  await page.fill("#search", "nobody at all");
  await page.locator("#people-none", { hasText: "Nobody of that name" }).waitFor();
  await page.fill("#search", "");
  await row("Guest 3").first().waitFor();
  await photograph("many");
  await page.setViewportSize(PHONE);
  await row("Guest").first().locator("[data-action=revoke-token]").click();
  await confirm("Everybody who came by it is put out");
  assert.deepEqual(await guests.codes(), ["token-revoked"]);
  await guests.page.close();
  await page.locator("#people-none").waitFor();
  await page.click("#revoke");
  assert.equal(await page.locator("#confirm[open]").count(), 0, "no subject, no question");
  await page.fill("#subject", "a.shop.*");
  await page.click("#revoke");
  await confirm("Take back the credentials of a.shop.*?");
  await toast("The credentials of a.shop.* are taken back");
});

test("in French, by keyboard, after the server was away, and out", async () => {
  await page.setViewportSize(DESKTOP);
  await page.click("[data-language=fr]");
  await page.locator("#state", { hasText: "En direct" }).waitFor();
  for (const [selector, words] of [
    ["#people-title", "Personnes et allocations"],
    ["#failures li[data-cause='access.login-refused'] span", "Une connexion à cette page a échoué."],
    ["#card-traffic h3", "Trafic"],
    ["#fact-admin-token", "depuis"],
  ]) {
    await page.locator(selector, { hasText: words }).first().waitFor();
  }
  const left = await page.evaluate(() => document.body.innerText.match(/\b(admin|cause)\.[a-z.-]+/g));
  assert.deepEqual(left?.filter((word) => word !== "admin.token") ?? [], [], "no text is missing");
  await photograph("french");
  await page.focus("#log-out");
  await page.keyboard.press("Tab");
  const focused = await page.evaluate(() => document.activeElement.id);
  assert.equal(focused, "search");
  assert.deepEqual(admin.messages.splice(0), [], "no error in the console");
  await server.halt();
  await page.locator("#state", { hasText: "Le serveur ne répond pas" }).waitFor();
  await server.again();
  // Sessions live in memory: who was logged in has to log in again, and is told so.
  await page.locator("#login-problem", { hasText: "Votre session est terminée" }).waitFor();
  await logIn();
  await page.locator("#dot[data-state=live]").waitFor();
  await page.focus("#log-out");
  await page.keyboard.press("Enter");
  await page.locator("#login").waitFor();
  await page.reload();
  await page.locator("#login").waitFor();
  assert.equal(await page.locator("#board").isVisible(), false);
});

/** Pages of calls without media, by the first invite; gives the code that each connection ends with. */
async function joinMany(count) {
  const other = await admin.page();
  await other.goto(`${server.origin}/admin`);
  await other.evaluate(([token, number]) => {
    const join = (index) => new Promise((done) => {
      const socket = new WebSocket(`wss://${location.host}/api/ws`);
      const told = { code: null };
      socket.onopen = () => socket.send(JSON.stringify({ type: "join", v: 1, room: `room-${index % 9}`, token, name: `Guest ${index}` }));
      socket.onmessage = ({ data }) => {
        const message = JSON.parse(data);
        if (message.type === "joined") done(told);
        if (message.fatal) told.code = message.code;
      };
    });
    return Promise.all(Array.from({ length: number }, (_, index) => join(index))).then((all) => (window.joinedHere = all));
  }, [server.ready.invite, count]);
  return {
    page: other,
    codes: async () => {
      await other.waitForFunction(() => window.joinedHere.every(({ code }) => code), null, { polling: 50 });
      return other.evaluate(() => [...new Set(window.joinedHere.map(({ code }) => code))]);
    },
  };
}
