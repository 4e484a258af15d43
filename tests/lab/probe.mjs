// A STUN and TCP probe without dependencies, to be run inside a client's namespace:
//
//   node probe.mjs udp 203.0.113.10:3478 203.0.113.11:3478 …   one socket, one Binding per destination
//   node probe.mjs tcp 203.0.113.10:443 …                      one connection per destination
//   node probe.mjs link 203.0.113.10:3478                      many Bindings, one by one
//
// Prints one JSON object: destination -> mapped address or null; destination -> connected or not; destination -> shortest
// round trip in milliseconds and share that was lost.

import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { connect, isIPv6 } from 'node:net';

const DEADLINE_MS = 4000;
// RFC 8489 section 6.2.1: 500 ms first; a loaded machine may lose the first answer to its own slowness.
const RETRANSMIT_MS = 500;
const LINK_COUNT = 150;
const LINK_GAP_MS = 10;
const LINK_PATIENCE_MS = 700;
const MAGIC_COOKIE = 0x2112a442;
const BINDING_REQUEST = 0x0001;
const BINDING_SUCCESS = 0x0101;
const XOR_MAPPED_ADDRESS = 0x0020;

const [mode, ...destinations] = process.argv.slice(2);
const probe = { udp: probeUdp, tcp: probeTcp, link: probeLink }[mode];
if (!probe || destinations.length === 0) throw new Error('usage: probe.mjs udp|tcp|link HOST:PORT…');
console.log(JSON.stringify(await probe(destinations.map(parse))));

/** Splits `host:port` or `[host]:port`. */
function parse(text) {
  const [, host, port] = /^\[?(.*?)\]?:(\d+)$/.exec(text);
  return { text, host, port: Number(port) };
}

/** Asks every destination from the same socket, so that the mapped ports tell the NAT's mapping behaviour. */
async function probeUdp(targets) {
  const socket = createSocket(isIPv6(targets[0].host) ? 'udp6' : 'udp4');
  const result = Object.fromEntries(targets.map(({ text }) => [text, null]));
  const waiting = new Map(targets.map((target) => [randomBytes(12).toString('hex'), target]));
  const send = () => {
    for (const [transaction, { host, port }] of waiting) socket.send(bindingRequest(transaction), port, host, () => {});
  };
  // A blocked path answers with ICMP at most: that is "no answer", not a failure of the probe.
  socket.on('error', () => {});
  const again = setInterval(send, RETRANSMIT_MS);
  let late;
  await new Promise((done) => {
    late = setTimeout(done, DEADLINE_MS);
    socket.on('message', (message) => {
      const transaction = message.subarray(8, 20).toString('hex');
      const target = waiting.get(transaction);
      if (!target || message.readUInt16BE(0) !== BINDING_SUCCESS) return;
      result[target.text] = mappedAddress(message);
      waiting.delete(transaction);
      if (waiting.size === 0) done();
    });
    send();
  });
  clearTimeout(late);
  clearInterval(again);
  socket.close();
  return result;
}

async function probeTcp(targets) {
  const connects = ({ host, port }) =>
    new Promise((done) => {
      const socket = connect({ host, port, timeout: DEADLINE_MS });
      const finish = (connected) => {
        socket.destroy();
        done(connected);
      };
      socket.on('connect', () => finish(true));
      socket.on('timeout', () => finish(false));
      socket.on('error', () => finish(false));
    });
  return Object.fromEntries(await Promise.all(targets.map(async (target) => [target.text, await connects(target)])));
}

/** Sends a Binding every few milliseconds, each once, to the first destination. */
async function probeLink([{ text, host, port }]) {
  const socket = createSocket(isIPv6(host) ? 'udp6' : 'udp4');
  const sent = new Map();
  const trips = [];
  socket.on('error', () => {});
  socket.on('message', (message) => {
    const at = sent.get(message.subarray(8, 20).toString('hex'));
    if (at !== undefined) trips.push(performance.now() - at);
  });
  for (let count = 0; count < LINK_COUNT; count += 1) {
    const transaction = randomBytes(12).toString('hex');
    sent.set(transaction, performance.now());
    socket.send(bindingRequest(transaction), port, host, () => {});
    await new Promise((done) => setTimeout(done, LINK_GAP_MS));
  }
  await new Promise((done) => setTimeout(done, LINK_PATIENCE_MS));
  socket.close();
  return { [text]: { trip: Math.min(...trips), lost: 1 - trips.length / LINK_COUNT } };
}

function bindingRequest(transaction) {
  const message = Buffer.alloc(20);
  message.writeUInt16BE(BINDING_REQUEST, 0);
  message.writeUInt32BE(MAGIC_COOKIE, 4);
  message.write(transaction, 8, 'hex');
  return message;
}

/** The XOR-MAPPED-ADDRESS of a Binding response (RFC 8489 section 14.2), as {address, port}. */
function mappedAddress(message) {
  for (let at = 20; at + 4 <= message.length; ) {
    const type = message.readUInt16BE(at);
    const length = message.readUInt16BE(at + 2);
    const value = message.subarray(at + 4, at + 4 + length);
    if (type === XOR_MAPPED_ADDRESS && length >= 8) {
      const port = value.readUInt16BE(2) ^ (MAGIC_COOKIE >>> 16);
      // The address is XORed with the cookie and the transaction id, which is bytes 4 to 19 of the header.
      const bytes = value.subarray(4).map((byte, index) => byte ^ message[4 + index]);
      const address = bytes.length === 4 ? bytes.join('.') : bytes.toString('hex');
      return { address, port };
    }
    at += 4 + length + ((4 - (length % 4)) % 4);
  }
  return null;
}
