// The pages that call in the laboratory, and how a person uses them: our call page, and the three kinds of page that were
// written for other servers, with the one line for our ICE servers in them.

import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { join as openCall, says } from '../browser/support/call.mjs';
import { withLine } from '../browser/support/pages.mjs';

const BROWSER_TESTS = new URL('../browser/', import.meta.url);
const FOREIGN = ['room', 'by-id', 'live'];

export const PAGES = ['call', ...FOREIGN];

/** Puts the foreign pages into a directory that the server serves. */
export function publishPages(directory, invite) {
  for (const name of FOREIGN) {
    const page = readFileSync(new URL(`pages/${name}.html`, BROWSER_TESTS), 'utf8');
    writeFileSync(join(directory, `${name}.html`), withLine(page, `/ice.js?token=${invite}`));
  }
  const client = new URL('node_modules/socket.io-client/dist/socket.io.min.js', BROWSER_TESTS);
  copyFileSync(client, join(directory, 'socket.io.min.js'));
}

/** Opens a page of this kind on both sides, and calls from the first. */
export async function openPages(kind, pages, origins, room, invite) {
  const open = (side, query) => {
    const server = `${origins[side]}/?token=${invite}`;
    return pages[side].goto(`${origins[side]}/${kind}.html?${new URLSearchParams({ server, ...query })}`);
  };
  const [caller, callee] = pages;
  switch (kind) {
    case 'call':
      await call(pages, origins, room, invite);
      break;
    case 'room':
      for (const [side, page] of pages.entries()) {
        await open(side, { room });
        await page.locator('body[data-ready]').waitFor({ state: 'attached' });
      }
      await caller.click('#call');
      break;
    case 'by-id': {
      await open(0, {});
      await open(1, {});
      const id = callee.locator('#mine:not(:empty)');
      await id.waitFor();
      await caller.fill('#other', await id.textContent());
      await caller.click('#call');
      break;
    }
    case 'live':
      await open(0, { role: 'streamer' });
      await open(1, { role: 'viewer', id: 7 });
      break;
    default:
      throw new Error(`no page of kind ${kind}`);
  }
}

/** Opens the invite link of `room` on both sides; the first waits in the room, then the second joins. */
async function call(pages, origins, room, invite) {
  for (const [side, page] of pages.entries()) {
    await openCall(page, `${origins[side]}/call/${room}#t=${invite}`);
    // Whoever waits is there before somebody calls.
    if (side === 0) await says(page, 'alone');
  }
}

/** Milliseconds from the second side's click on “join” to the first picture of the other one, for both sides. */
export async function clickToPicture(pages) {
  // Decoded frames are counted before the page is told of the first one.
  const marks = await Promise.all(
    pages.map(async (page) => {
      await page.waitForFunction(() => performance.getEntriesByName('relais:first-frame').length > 0);
      return page.evaluate(() => {
        const at = (name) => performance.timeOrigin + performance.getEntriesByName(name).at(-1)?.startTime;
        return { click: at('relais:join'), picture: at('relais:first-frame') };
      });
    }),
  );
  return marks.map(({ picture }) => Math.round(picture - marks[1].click));
}
