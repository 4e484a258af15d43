// axe-core finds nothing serious or critical: each page in its main states, light and dark, on a phone; with RELAIS_LONG
// (`tests/run --long`) also on a desktop, where the same controls have the same names and colours.

import { after, before, test } from "node:test";

import { accessible } from "./support/axe.mjs";
import { DESKTOP, PHONE, startBrowser } from "./support/browser.mjs";
import { enter, hangUp, join, newRoom, picturesArriveOnBoth, says } from "./support/call.mjs";
import { startServer } from "./support/server.mjs";

let server;
let browser;
let page;

before(async () => {
  // Not on loopback alone: there nobody needs an invitation.
  server = await startServer({ tcp: "0.0.0.0:0" });
  browser = await startBrowser({ ca: server.ca });
  page = await browser.page();
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

const SIZES = process.env.RELAIS_LONG ? { phone: PHONE, desktop: DESKTOP } : { phone: PHONE };

async function look(t, state) {
  for (const [size, viewport] of Object.entries(SIZES)) {
    await page.setViewportSize(viewport);
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      // By night only the colours are others.
      const rules = colorScheme === "dark" ? ["color-contrast"] : null;
      for (const lesser of await accessible(page, `${state}, ${size}, ${colorScheme}`, rules)) t.diagnostic(`${state}: ${lesser}`);
    }
  }
}

test("home", async (t) => {
  await page.goto(server.origin);
  await page.locator("#invite").waitFor();
  await look(t, "home without an invitation");
  await page.goto(`${server.origin}/#t=${server.ready.invite}`);
  await page.reload();
  await page.locator("#invite").waitFor({ state: "hidden" });
  await look(t, "home");
  await page.fill("#where", "???");
  await page.click("#join .inner");
  await page.locator("#join-problem").waitFor();
  await look(t, "home with a problem");
});

test("call", async (t) => {
  const room = newRoom();
  await page.goto(server.link(room));
  await page.waitForFunction(() => document.querySelector("#preview").videoWidth > 0);
  await look(t, "before the call");
  await enter(page, "Ada");
  await says(page, "alone");
  await page.locator("#waiting").waitFor();
  await look(t, "alone");
  const guest = await browser.page();
  await join(guest, server.link(room), "Bob");
  await picturesArriveOnBoth(page, guest);
  await page.locator("#badge").waitFor();
  await look(t, "in a call");
  await guest.click("#stage [data-turn=video]");
  await page.locator(".tile.dark").waitFor();
  await look(t, "a dark tile");
  await page.click("#open-settings");
  await page.locator("#settings [data-relay]").check();
  await page.locator("#settings [data-relay-mode]").waitFor();
  await look(t, "settings");
  await page.locator("#settings [data-relay]").uncheck();
  await page.click("#show-figures");
  await page.locator(".figures-card").waitFor();
  await look(t, "figures");
  await page.click("#close-figures");
  await page.click("#open-settings");
  await page.click("#close-room");
  await page.locator("#confirm[open]").waitFor();
  await look(t, "a question");
  await page.click("#confirm [value='']");
  await hangUp(page);
  await page.locator("#ended").waitFor();
  await look(t, "after the call");
  await guest.close();
  const [head, body] = server.ready.invite.split(".");
  await join(page, `${server.origin}/call/${newRoom()}#t=${head}.${body}.${"A".repeat(43)}`);
  await page.locator("#refused").waitFor();
  await look(t, "refused");
});

test("call by id", async (t) => {
  await page.goto(`${server.origin}/call-by-id#t=not.a.token`);
  await page.locator("#problem").waitFor();
  await look(t, "not let in");
  // The last page kept an invitation that is not valid.
  await page.goto(`${server.origin}/#t=${server.ready.invite}`);
  await page.goto(`${server.origin}/call-by-id`);
  await page.locator("#copy-id:enabled").waitFor();
  await look(t, "lobby");
  await page.click("#dial .inner");
  await page.locator("#dial-problem").waitFor();
  await look(t, "lobby with a problem");
  const guest = await browser.page();
  await guest.goto(`${server.origin}/#t=${server.ready.invite}`);
  await guest.goto(`${server.origin}/call-by-id`);
  await guest.locator("#copy-id:enabled").waitFor();
  await guest.fill("#other", await page.locator("#my-id").textContent());
  await guest.click("#dial .inner");
  await page.locator("#ring[open]").waitFor();
  await look(t, "ringing");
  await page.click("#accept");
  await picturesArriveOnBoth(page, guest);
  await look(t, "in a call by id");
  await page.click("#hang-up");
  await guest.close();
});

test("check", async (t) => {
  await page.goto("about:blank");
  await page.goto(`${server.origin}/check#t=${server.ready.invite}`);
  await page.locator("body[data-checked]").waitFor({ state: "attached", timeout: 120_000 });
  await look(t, "checked");
  await page.click("#devices-start");
  await page.locator("#devices").waitFor();
  await page.click("#with-start");
  await page.locator("#with-link").waitFor();
  await look(t, "checked, with devices and a link");
});
