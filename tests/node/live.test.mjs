// The streamer and viewer pages of the third tutorial: plain WebSocket to the bare origin, as a browser opens it.

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
  constructor(path) {
    this.inbox = new Inbox();
    this.socket = new WebSocket(server.ws + path);
    this.opened = within(new Promise((resolve) => this.socket.on('open', resolve)), 'open');
    this.closed = new Promise((resolve) => this.socket.on('close', resolve));
    this.socket.on('message', (data, isBinary) => {
      assert.equal(isBinary, false, 'browsers get a Blob from binary frames');
      this.inbox.push(JSON.parse(data));
    });
  }

  static async open(path, message) {
    const page = new Page(path);
    await page.opened;
    if (message) page.send(message);
    return page;
  }

  send(message) {
    this.socket.send(JSON.stringify(message));
  }

  async close() {
    this.socket.close();
    await within(this.closed, 'close');
  }
}

test('a stream to two viewers', async () => {
  const streamer = await Page.open('/', { type: 'streamer' });
  const first = await Page.open('/', { type: 'viewer', viewerId: 1731 });
  assert.deepEqual(await streamer.inbox.next('newViewer'), { type: 'newViewer', viewerId: 1731 });
  const second = await Page.open('/', { type: 'viewer', viewerId: '1731' });
  assert.deepEqual(await streamer.inbox.next('newViewer'), { type: 'newViewer', viewerId: '1731' });

  for (const [page, viewerId] of [[first, 1731], [second, '1731']]) {
    streamer.send({ type: 'offer', offer: description('offer', viewerId), viewerId });
    const offer = await page.inbox.next('the offer');
    assert.deepEqual(offer, { type: 'offer', offer: description('offer', viewerId), viewerId });
    // Whom it says it is makes no difference.
    page.send({ type: 'answer', answer: description('answer', 2), viewerId: 'somebody else' });
    const answer = await streamer.inbox.next('the answer');
    assert.deepEqual(answer, { type: 'answer', answer: description('answer', 2), viewerId });
    page.send({ type: 'candidate', candidate: candidate(1), target: 'streamer', viewerId });
    const there = await streamer.inbox.next('a candidate');
    assert.deepEqual(there, { type: 'candidate', candidate: candidate(1), target: 'streamer', viewerId });
    streamer.send({ type: 'candidate', candidate: candidate(2), target: 'viewer', viewerId });
    const back = await page.inbox.next('a candidate');
    assert.deepEqual(back, { type: 'candidate', candidate: candidate(2), target: 'viewer', viewerId });
  }
  assert.deepEqual([streamer.inbox.rest, first.inbox.rest, second.inbox.rest], [[], [], []]);
  await Promise.all([streamer.close(), first.close(), second.close()]);
});

test('viewers wait for a streamer, and for its return', async () => {
  const viewers = [];
  for (const viewerId of ['a', 2, 'c']) viewers.push(await Page.open('/any/path', { type: 'viewer', viewerId }));
  await viewers[2].close();
  for (let time = 0; time < 2; time += 1) {
    const streamer = await Page.open('/', { type: 'streamer' });
    const told = [await streamer.inbox.next('newViewer'), await streamer.inbox.next('newViewer')];
    assert.deepEqual(told.map((message) => message.viewerId), ['a', 2]);
    await streamer.close();
  }
  await Promise.all([viewers[0].close(), viewers[1].close()]);
});

test('a second streamer is told why it may not', async () => {
  const streamer = await Page.open('/?stream=taken', { type: 'streamer' });
  const viewer = await Page.open('/?stream=taken', { type: 'viewer', viewerId: 1 });
  await streamer.inbox.next('newViewer');
  const second = await Page.open('/?stream=taken', { type: 'streamer' });
  const refusal = await second.inbox.next('the refusal');
  assert.deepEqual([refusal.type, refusal.code], ['error', 'stream-taken']);
  await within(second.closed, 'close');
  streamer.send({ type: 'offer', offer: description('offer', 1), viewerId: 1 });
  await viewer.inbox.next('the offer of the first');
  await Promise.all([streamer.close(), viewer.close()]);
});

test('streams do not mix, and extras come only to who asks for them', async () => {
  const plain = await Page.open('/', { type: 'streamer' });
  const streamer = await Page.open('/', { type: 'streamer', stream: 'one' });
  assert.deepEqual(await streamer.inbox.next(), { type: 'viewerCount', count: 0 });
  const viewer = await Page.open('/', { type: 'viewer', viewerId: 5, stream: 'one' });
  assert.deepEqual(await streamer.inbox.next(), { type: 'newViewer', viewerId: 5 });
  assert.deepEqual(await streamer.inbox.next(), { type: 'viewerCount', count: 1 });
  const quiet = await Page.open('/?stream=one', { type: 'viewer', viewerId: 6 });
  await streamer.inbox.next('newViewer');
  await streamer.inbox.next('viewerCount');
  await quiet.close();
  assert.deepEqual(await streamer.inbox.next(), { type: 'viewerLeft', viewerId: 6 });
  assert.deepEqual(await streamer.inbox.next(), { type: 'viewerCount', count: 1 });
  await streamer.close();
  assert.deepEqual(await viewer.inbox.next(), { type: 'streamerLeft' });
  viewer.send({ type: 'ping' });
  assert.deepEqual(await viewer.inbox.next(), { type: 'pong' });
  assert.deepEqual(plain.inbox.rest, []);
  await Promise.all([plain.close(), viewer.close()]);
});

test('pages of the native protocol meet these in one stream', async () => {
  const stream = 'both-kinds';
  const native = (role) => Page.open('/api/ws', { type: 'join', v: 1, stream, role, instance: role });
  const viewer = await Page.open(`/?stream=${stream}`, { type: 'viewer', viewerId: 7 });
  const streamer = await native('streamer');
  const joined = await streamer.inbox.next('joined');
  assert.deepEqual([joined.stream, joined.role, joined.viewers, joined.peers.length], [stream, 'streamer', 1, 1]);
  const [{ peer, polite }] = joined.peers;
  assert.equal(polite, true, 'the streamer calls');
  streamer.send({ type: 'offer', to: peer, description: description('offer', 1) });
  assert.deepEqual(await viewer.inbox.next('offer'), { type: 'offer', offer: description('offer', 1), viewerId: 7 });
  viewer.send({ type: 'answer', answer: description('answer', 1), viewerId: 7 });
  const answer = await streamer.inbox.next('answer');
  assert.deepEqual([answer.from, answer.description], [peer, description('answer', 1)]);
  streamer.send({ type: 'invite', role: 'viewer' });
  const invite = await streamer.inbox.next('invite');
  assert.deepEqual([invite.role, invite.room], ['viewer', stream]);
  streamer.send({ type: 'leave' });
  await within(streamer.closed, 'close');

  const theirs = await Page.open(`/?stream=${stream}`, { type: 'streamer' });
  assert.equal((await theirs.inbox.next('newViewer')).viewerId, 7);
  const ours = await native('viewer');
  const { peer: id } = await ours.inbox.next('joined');
  const { viewerId } = await theirs.inbox.next('newViewer');
  assert.equal(viewerId, id, 'a native viewer is called by its peer id');
  theirs.send({ type: 'candidate', candidate: candidate(1), target: 'viewer', viewerId });
  const there = await ours.inbox.next('candidate');
  assert.deepEqual(there.candidate, candidate(1));
  ours.send({ type: 'candidate', to: there.from, candidate: candidate(2) });
  assert.deepEqual(await theirs.inbox.next('candidate'), { type: 'candidate', candidate: candidate(2), target: 'streamer', viewerId });
  for (const page of [ours, theirs, viewer]) await page.close();
});
