// What the pages say: in French and English, and when something is in the way.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { startBrowser } from "./support/browser.mjs";
import { enter, join, newRoom, picturesArrive, says } from "./support/call.mjs";
import { port, startServer } from "./support/server.mjs";

let server;
let browser;

before(async () => {
  // Not on loopback alone: there nobody needs an invitation.
  server = await startServer({ tcp: "0.0.0.0:0" });
  browser = await startBrowser({ ca: server.ca });
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

async function withBrowser(options, use) {
  const other = await startBrowser({ ca: server.ca, ...options });
  try {
    await use(await other.page(), other);
  } finally {
    await other.close();
  }
}

test("French by the browser's language, English by choice, and remembered", async () => {
  await withBrowser({ locale: "fr-CA" }, async (page, { messages }) => {
    await page.goto(`${server.origin}/#t=${server.ready.invite}`);
    await page.locator("h1", { hasText: "Lancez un appel. Envoyez le lien." }).waitFor();
    assert.equal(await page.locator("html").getAttribute("lang"), "fr");
    assert.equal(await page.title(), "Relais\u00a0: lancer un appel");
    await page.click("[data-language=en]");
    await page.locator("h1", { hasText: "Start a call. Send the link." }).waitFor();
    await page.reload();
    await page.locator("h1", { hasText: "Start a call." }).waitFor();
    assert.equal(await page.locator("#create .primary").textContent().then((text) => text.trim()), "Start the call");
    await page.click("#create .primary");
    await page.locator("#enter .primary", { hasText: "Join the call" }).waitFor();
    await page.click("#page-bar [data-language=fr]");
    await enter(page);
    await says(page, "alone");
    assert.equal(await page.locator("#status").textContent(), "En attente de quelqu’un");
    assert.deepEqual(messages, []);
  });
});

test("home: the token leaves the address bar, stays in the tab, and a link copied here carries an invite of a member", async () => {
  const page = await browser.page();
  await page.goto(`${server.origin}/#t=${server.ready.invite}`);
  await page.locator("#room").waitFor();
  assert.equal(new URL(page.url()).hash, "");
  const room = newRoom();
  await page.fill("#where", `${server.origin}/call/${room}#t=${server.ready.invite}`);
  await page.click("#join .inner");
  await page.locator("#prejoin h1", { hasText: room }).waitFor();
  assert.equal(page.url(), `${server.origin}/call/${room}`);
  await enter(page);
  await says(page, "alone");
  await browser.context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: server.origin });
  await page.click("#waiting [data-copy]");
  await page.locator(".toast", { hasText: "Link copied" }).waitFor();
  await isMemberLink(await page.evaluate(() => navigator.clipboard.readText()), room);
  await page.click("#hang-up");

  await page.goto(server.origin);
  const next = newRoom();
  await page.fill("#room", next);
  await page.click("#copy");
  await page.locator("#copied", { hasText: "Link copied" }).waitFor({ state: "attached" });
  await isMemberLink(await page.evaluate(() => navigator.clipboard.readText()), next);
  await page.close();
});

/** An invite of a member for this one room, not the host's own token; and it opens the room. */
async function isMemberLink(link, room) {
  const [address, token] = link.split("#t=");
  assert.equal(address, `${server.origin}/call/${room}`);
  const claims = JSON.parse(Buffer.from(token.split(".")[1], "base64url"));
  assert.deepEqual([claims.room, claims.role], [room, "member"]);
  const guest = await browser.page();
  await join(guest, link);
  await guest.waitForFunction(() => ["alone", "connected"].includes(document.querySelector("#status").dataset.text?.slice(6)));
  await guest.click("#hang-up");
  await guest.close();
}

test("home: a name made of what was typed, and a word on what is none", async () => {
  const page = await browser.page();
  await page.goto(server.origin);
  await page.fill("#where", "???");
  await page.click("#join .inner");
  await page.locator("#join-problem", { hasText: "neither a room name nor an invite link" }).waitFor();
  await page.fill("#where", " Chez Zoé ");
  await page.click("#join .inner");
  await page.locator("#prejoin h1", { hasText: "chez-zoe" }).waitFor();
  await page.close();
});

test("without an invitation: home and call page say what to do, and a pasted link helps", async () => {
  const room = newRoom();
  const page = await browser.page();
  await page.goto(server.origin);
  await page.locator("#invite-title", { hasText: "You need an invitation" }).waitFor();
  await page.goto(`${server.origin}/call/${room}`);
  await enter(page);
  await page.locator("#refused h1", { hasText: "You need an invitation" }).waitFor();
  assert.match(await page.locator("#refused-text").textContent(), /Open the invite link/);
  await page.fill("#paste-link", server.link(room));
  await page.click("#paste .inner");
  await enter(page);
  await says(page, "alone");
  await page.close();
});

test("a wrong invitation is refused in words", async () => {
  const page = await browser.page();
  const [head, body] = server.ready.invite.split(".");
  await join(page, `${server.origin}/call/${newRoom()}#t=${head}.${body}.${"A".repeat(43)}`);
  await page.locator("#refused h1", { hasText: "This invitation is not valid" }).waitFor();
  await page.close();
});

test("no camera and no microphone: joins and sees", async () => {
  const room = newRoom();
  await withBrowser({ devices: false }, async (page) => {
    await page.goto(server.link(room));
    await page.locator(".device-problem", { hasText: "No camera and no microphone found. You can join without." }).waitFor();
    const other = await browser.page();
    await join(other, server.link(room));
    await enter(page);
    await picturesArrive(page);
    await other.locator(".tile.dark").waitFor();
    await other.close();
  });
});

test("camera and microphone refused: says so, and joins without", async () => {
  const room = newRoom();
  await withBrowser({ refuse: true }, async (page) => {
    await page.goto(server.link(room));
    await page.locator(".device-problem", { hasText: "may not use your camera and microphone" }).waitFor();
    await enter(page);
    await says(page, "alone");
  });
});

test("an insecure page explains itself and links to the secure one", async () => {
  const insecure = await startServer({ domain: "relais.test" });
  try {
    const flags = ["--host-resolver-rules=MAP relais.test 127.0.0.1"];
    await withBrowser({ flags }, async (page) => {
      const host = `relais.test:${port(insecure.ready.tcp[0])}`;
      await page.goto(`http://${host}/call/blue-fox-42#t=${insecure.ready.invite}`);
      await page.locator("#refused h1", { hasText: "This page is not secure" }).waitFor();
      const href = await page.locator("#secure-link").getAttribute("href");
      assert.equal(href, `https://${host}/call/blue-fox-42#t=${insecure.ready.invite}`);
      await page.goto(`http://${host}/live/blue-fox-42/studio`);
      const studio = `https://${host}/live/blue-fox-42/studio#t=${insecure.ready.invite}`;
      await page.locator(`#secure-link[href="${studio}"]`).waitFor();
    });
  } finally {
    await insecure.stop();
  }
});

test("a relay that the server does not offer is named", async () => {
  const plain = await startServer({ turns: "never" });
  try {
    await withBrowser({ ca: plain.ca }, async (page) => {
      await join(page, plain.link(newRoom(), "?relay=tls"));
      await page.locator(".toast", { hasText: "offers no relay of that kind" }).waitFor();
      assert.equal(await page.locator("#settings [data-relay]").isChecked(), true);
    });
  } finally {
    await plain.stop();
  }
});
