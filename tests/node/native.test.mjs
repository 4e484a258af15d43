// PROTOCOL.md with an independent WebSocket client.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { WebSocket } from 'ws';
import { Inbox, Server, candidate, description, within } from './server.mjs';

let server;
before(async () => {
  server = await Server.start();
});
after(() => server.stop());

class Page {
  constructor(url = server.ws, options = {}) {
    this.inbox = new Inbox();
    this.seq = 0;
    this.socket = new WebSocket(`${url}/api/ws`, options);
    this.opened = within(
      new Promise((resolve, reject) => {
        this.socket.on('open', resolve);
        this.socket.on('error', reject);
      }),
      'open',
    );
    this.closed = within(new Promise((resolve) => this.socket.on('close', resolve)), 'close');
    this.closed.catch(() => {});
    this.socket.on('message', (data) => {
      const message = JSON.parse(data);
      if (message.seq) this.seq = message.seq;
      this.inbox.push(message);
    });
  }

  static async join(fields, url) {
    const page = new Page(url);
    await page.opened;
    page.send({ type: 'join', v: 1, ...fields });
    page.joined = await page.inbox.next('joined');
    return page;
  }

  send(message) {
    this.socket.send(JSON.stringify(message));
  }

  /** The next message without its number, which must follow the last. */
  async next(what) {
    const { seq, ...message } = await this.inbox.next(what);
    return message;
  }

  lose() {
    this.socket.terminate();
  }
}

test('join, presence, offer, answer, candidate, bye, leave', async () => {
  const ada = await Page.join({ room: 'blue-fox', name: 'Ada', instance: 'i1' });
  assert.equal(ada.joined.type, 'joined');
  const { room, resumed, limit, resume, peers, v, seq } = ada.joined;
  assert.deepEqual({ room, resumed, limit, resume, peers, v, seq }, {
    room: 'blue-fox', resumed: false, limit: 2, resume: 60, peers: [], v: 1, seq: 1,
  });
  assert.ok(ada.joined.ice.iceServers.length >= 1 && ada.joined.ice.ttl > 0);
  const username = ada.joined.ice.iceServers.find((entry) => entry.username)?.username;
  assert.match(username, new RegExp(`^\\d+:p\\.${ada.joined.peer}$`));

  const bob = await Page.join({ room: 'blue-fox', name: 'Bob', instance: 'i2' });
  const { role } = ada.joined;
  assert.deepEqual(bob.joined.peers, [
    { peer: ada.joined.peer, name: 'Ada', role, instance: 'i1', polite: true, connected: true },
  ]);
  assert.deepEqual(await ada.inbox.next(), {
    type: 'peer-joined', seq: 2, peer: bob.joined.peer, name: 'Bob', role, instance: 'i2', polite: false, connected: true,
  });
  bob.send({ type: 'offer', to: ada.joined.peer, description: description('offer', 1) });
  assert.deepEqual(await ada.next(), { type: 'offer', from: bob.joined.peer, description: description('offer', 1) });
  ada.send({ type: 'answer', to: bob.joined.peer, description: description('answer', 2) });
  assert.deepEqual(await bob.next(), { type: 'answer', from: ada.joined.peer, description: description('answer', 2) });
  bob.send({ type: 'candidate', to: ada.joined.peer, candidate: candidate(1) });
  bob.send({ type: 'candidate', to: ada.joined.peer, candidate: null });
  assert.deepEqual((await ada.next()).candidate, candidate(1));
  assert.deepEqual((await ada.next()).candidate, null);
  bob.send({ type: 'bye' });
  assert.deepEqual(await ada.next(), { type: 'bye', from: bob.joined.peer });
  bob.send({ type: 'ice' });
  assert.ok((await bob.next()).ice.iceServers.length >= 1);
  bob.send({ type: 'ping' });
  assert.deepEqual(await bob.inbox.next(), { type: 'pong' });
  bob.send({ type: 'leave' });
  assert.equal(await bob.closed, 1000);
  assert.deepEqual(await ada.next(), { type: 'peer-left', peer: bob.joined.peer, reason: 'left' });
  ada.socket.close();
});

test('a lost connection comes back and misses nothing', async () => {
  const ada = await Page.join({ room: 'resume', instance: 'i1' });
  const bob = await Page.join({ room: 'resume', instance: 'i2' });
  await ada.next();
  bob.lose();
  assert.deepEqual(await ada.next(), { type: 'peer-lost', peer: bob.joined.peer });
  ada.send({ type: 'offer', to: bob.joined.peer, description: description('offer', 1) });
  ada.send({ type: 'candidate', to: bob.joined.peer, candidate: candidate(1) });
  const { session } = bob.joined;
  const again = await Page.join({ room: 'resume', instance: 'i2', session, seq: bob.seq });
  assert.deepEqual([again.joined.resumed, again.joined.peer, again.joined.seq], [true, bob.joined.peer, bob.seq]);
  assert.equal(again.joined.session, session);
  assert.deepEqual([(await again.inbox.next()).description, (await again.inbox.next()).candidate], [
    description('offer', 1), candidate(1),
  ]);
  assert.equal(again.seq, bob.seq + 2);
  assert.deepEqual(await ada.next(), { type: 'peer-back', peer: bob.joined.peer });

  // The same session from elsewhere: the connection before is told.
  const third = await Page.join({ room: 'resume', instance: 'i2', session, seq: again.seq });
  assert.equal(third.joined.resumed, true);
  const replaced = await again.next();
  assert.deepEqual([replaced.code, replaced.fatal], ['replaced', true]);
  await again.closed;
  assert.deepEqual(ada.inbox.rest, []);

  // The page was loaded again: a new peer in the old one's place.
  const reloaded = await Page.join({ room: 'resume', instance: 'i3', session, seq: third.seq });
  assert.equal(reloaded.joined.resumed, false);
  assert.notEqual(reloaded.joined.peer, bob.joined.peer);
  assert.deepEqual(await ada.next(), { type: 'peer-left', peer: bob.joined.peer, reason: 'reload' });
  assert.equal((await ada.next()).peer, reloaded.joined.peer);
  ada.socket.close();
  reloaded.socket.close();
});

test('every refusal has its code', async () => {
  const refusals = [
    [{ type: 'offer' }, 'join-first'],
    [{ type: 'join', v: 2, room: 'r' }, 'version'],
    [{ type: 'join', v: 1, room: 'no spaces' }, 'bad-room'],
    [{ type: 'join', v: 1, room: 'x'.repeat(65) }, 'bad-room'],
    [{ type: 'join', v: 1, room: 'r', name: 'x'.repeat(65) }, 'bad-name'],
  ];
  for (const [message, code] of refusals) {
    const page = new Page();
    await page.opened;
    page.send(message);
    const error = await page.next(code);
    assert.deepEqual([error.type, error.code, error.fatal], ['error', code, true]);
    assert.equal(await page.closed, 1008);
  }
});

test('what is not understood is named, and ten in a row are enough', async () => {
  const page = await Page.join({ room: 'complaints' });
  const complaints = [
    ['{', 'bad-json'],
    ['[]', 'bad-message'],
    ['{"type":"offer","to":"x"}', 'bad-message'],
    ['{"type":"sing"}', 'unknown-type'],
    ['{"type":"offer","to":"nobody","description":{}}', 'unknown-peer'],
  ];
  for (const [text, code] of complaints) {
    page.socket.send(text);
    const error = await page.next(code);
    assert.deepEqual([error.code, error.fatal], [code, false]);
  }
  for (let time = 1; time <= 10; time += 1) {
    page.socket.send('{');
    assert.equal((await page.next()).fatal, time === 10);
  }
  await page.closed;
});

test('too much at once, and too large', async () => {
  const fast = await Page.join({ room: 'fast' });
  for (let number = 0; number < 300; number += 1) fast.send({ type: 'ping' });
  let last;
  do last = await fast.next('too-fast');
  while (last.type === 'pong');
  assert.equal(last.code, 'too-fast');
  await fast.closed;

  const large = await Page.join({ room: 'large' });
  large.send({ type: 'bye', more: 'x'.repeat(1_000_100) });
  assert.equal((await large.next('too-large')).code, 'too-large');
  assert.equal(await large.closed, 1009);
});

test('a room takes two, and a stop is announced', async () => {
  const own = await Server.start();
  try {
    const pages = [await Page.join({ room: 'full' }, own.ws), await Page.join({ room: 'full' }, own.ws)];
    const third = await Page.join({ room: 'full' }, own.ws);
    assert.deepEqual([third.joined.code, third.joined.fatal], ['room-full', true]);
    await pages[0].next('peer-joined');
    const stopped = own.stop();
    for (const page of pages) {
      assert.deepEqual(await page.next('closing'), { type: 'closing', reason: 'shutdown' });
      assert.equal(await page.closed, 1001);
    }
    await stopped;
  } finally {
    await own.stop();
  }
});

test('where access is by invitation a token is needed', async () => {
  const closed = await Server.start('--access', 'invite');
  try {
    const stranger = await Page.join({ room: 'private' }, closed.ws);
    assert.equal(stranger.joined.code, 'token-missing');
    const forger = await Page.join({ room: 'private', token: 'made.up.token' }, closed.ws);
    assert.equal(forger.joined.code, 'token-invalid');
    const guest = await Page.join({ room: 'private', token: closed.invite }, closed.ws);
    assert.equal(guest.joined.type, 'joined');
    guest.socket.close();
  } finally {
    await closed.stop();
  }
});

test('pages of other origins are refused', async () => {
  const page = new Page(server.ws, { headers: { origin: 'https://elsewhere.example' } });
  await assert.rejects(page.opened, /403/);
});
