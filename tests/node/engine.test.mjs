// Engine.IO's own rules over HTTP: errors in the stock server's words, one request of a kind at a time, CORS.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Server, within } from './server.mjs';

let server;
before(async () => {
  server = await Server.start('--origin', 'https://pages.example');
});
after(() => server.stop());

const at = (query) => `${server.http}/socket.io/?${query}`;

async function open() {
  const response = await fetch(at('EIO=4&transport=polling'));
  assert.equal(response.status, 200);
  const text = await response.text();
  assert.equal(text[0], '0');
  return { response, ...JSON.parse(text.slice(1)) };
}

test('the open packet and its headers', async () => {
  const { response, sid, ...rest } = await open();
  assert.deepEqual(rest, { upgrades: ['websocket'], pingInterval: 25000, pingTimeout: 20000, maxPayload: 1000000 });
  assert.match(sid, /^[A-Za-z0-9_-]{32}$/);
  assert.equal(response.headers.get('content-type'), 'text/plain; charset=UTF-8');
  assert.equal(response.headers.get('cache-control'), 'no-store');
});

test('the six errors', async () => {
  const { sid } = await open();
  const cases = [
    ['GET', 'EIO=4&transport=carrier-pigeon', 400, 0, 'Transport unknown'],
    ['GET', 'EIO=4', 400, 0, 'Transport unknown'],
    ['GET', 'EIO=4&transport=polling&sid=none', 400, 1, 'Session ID unknown'],
    ['POST', 'EIO=4&transport=polling', 400, 2, 'Bad handshake method'],
    ['GET', 'EIO=4&transport=websocket', 400, 3, 'Bad request'],
    ['PUT', `EIO=4&transport=polling&sid=${sid}`, 400, 3, 'Bad request'],
    ['GET', 'EIO=3&transport=polling', 400, 5, 'Unsupported protocol version'],
  ];
  for (const [method, query, status, code, message] of cases) {
    const response = await fetch(at(query), { method });
    assert.equal(response.status, status, query);
    assert.deepEqual(await response.json(), { code, message });
  }
  const response = await fetch(at('EIO=4&transport=polling'), { headers: { origin: 'https://elsewhere.example' } });
  assert.equal(response.status, 403);
  assert.deepEqual(await response.json(), { code: 4, message: 'Forbidden' });
});

test('one GET at a time', async () => {
  const { sid } = await open();
  const first = fetch(at(`EIO=4&transport=polling&sid=${sid}`));
  // Whichever of the two comes second ends the session, and the other is let go.
  const second = fetch(at(`EIO=4&transport=polling&sid=${sid}`));
  const statuses = (await within(Promise.all([first, second]), 'both')).map((response) => response.status).sort();
  assert.deepEqual(statuses, [200, 400]);
  const late = await fetch(at(`EIO=4&transport=polling&sid=${sid}`));
  assert.deepEqual(await late.json(), { code: 1, message: 'Session ID unknown' });
});

test('what is not Engine.IO or Socket.IO ends the session', async () => {
  for (const [body, status] of [['x', 400], ['4nonsense', 200], ['42["before connect"]', 200], ['b!!!', 400]]) {
    const { sid } = await open();
    const response = await fetch(at(`EIO=4&transport=polling&sid=${sid}`), { method: 'POST', body });
    assert.equal(response.status, status, body);
    await response.text();
    for (let ended = false; !ended; ) {
      const reply = await fetch(at(`EIO=4&transport=polling&sid=${sid}`));
      ended = (await reply.text()).includes('Session ID unknown');
    }
  }
});

test('a payload over the limit', async () => {
  const { sid } = await open();
  const body = '4'.repeat(1_000_001);
  const response = await fetch(at(`EIO=4&transport=polling&sid=${sid}`), { method: 'POST', body });
  assert.equal(response.status, 413);
});

test('cross-origin pages, credentials only for listed origins', async () => {
  const origin = 'https://pages.example';
  const response = await fetch(at('EIO=4&transport=polling'), { headers: { origin } });
  assert.equal(response.headers.get('access-control-allow-origin'), origin);
  assert.equal(response.headers.get('access-control-allow-credentials'), 'true');
  const preflight = await fetch(at('EIO=4&transport=polling'), { method: 'OPTIONS', headers: { origin } });
  assert.equal(preflight.status, 204);
  assert.match(preflight.headers.get('access-control-allow-methods'), /POST/);
  const local = await fetch(at('EIO=4&transport=polling'), { headers: { origin: 'http://localhost:3000' } });
  assert.equal(local.headers.get('access-control-allow-origin'), 'http://localhost:3000');
  assert.equal(local.headers.get('access-control-allow-credentials'), null);
});
