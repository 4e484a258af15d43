// Real faults between a browser and our server, each staged by itself: the check page must name the cause, and no other.
// Started by `tests/lab/run --faults`.

import { createHmac } from 'node:crypto';
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import assert from 'node:assert/strict';

import { startBrowser } from './browser.mjs';
import { SERVER, connectRouted, createPublicSegment, createSide, exec, removeSides } from './network.mjs';
import { startServer } from './server.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const CHECK_DEADLINE_MS = 90_000;
const RANGE = '49152-65535';

/**
 * `router`: the kind before the browser; `reached`: somebody else was answered over UDP before; `flags` of the server;
 * `firewall`: a rule at the server; `credential`: what stands in for the one that the server makes; `stranger`: the browser
 * does not know the server's authority, and its user clicked the warning away; `whole`: the calls through the relay, too.
 * Expected: `causes`, the verdict in both languages (`says`), and the `nat`.
 */
const FAULTS = {
  none: {
    router: 'cone',
    whole: true,
    causes: [],
    nat: 'same-for-ports',
    says: [
      'Everything works: calls can go over UDP, TCP and TLS.',
      'Tout fonctionne : les appels peuvent passer par UDP, TCP et TLS.',
    ],
  },
  'none-symmetric': {
    router: 'symmetric',
    causes: [],
    nat: 'symmetric',
    says: [
      'Everything works: calls can go over UDP, TCP and TLS.',
      'Tout fonctionne : les appels peuvent passer par UDP, TCP et TLS.',
    ],
  },
  'udp-blocked': {
    router: 'udp-blocked',
    reached: true,
    causes: ['udp-blocked'],
    says: [
      'UDP is blocked by your network; calls work over TCP 443.',
      'UDP est bloqué par votre réseau ; les appels passent par TCP 443.',
    ],
  },
  'only-443': {
    router: 'only-443',
    reached: true,
    causes: ['udp-blocked', 'port-closed'],
    says: [
      'UDP is blocked by your network; calls work over TCP 443.',
      'UDP est bloqué par votre réseau ; les appels passent par TCP 443.',
    ],
  },
  'udp-closed-at-server': {
    router: 'cone',
    firewall: 'meta l4proto udp drop',
    causes: ['udp-blocked'],
    says: [
      'UDP does not get through to the server; calls work over TCP 443.',
      'UDP n’arrive pas jusqu’au serveur ; les appels passent par TCP 443.',
    ],
  },
  'tcp-port-closed': {
    router: 'cone',
    firewall: 'tcp dport 3478 reject with tcp reset',
    causes: ['port-closed'],
    says: [
      'The server cannot be reached on TCP 3478 and TLS 3478; calls work over UDP.',
      'Le serveur est injoignable sur TCP 3478 et TLS 3478 ; les appels passent par UDP.',
    ],
  },
  'turn-port-closed': {
    router: 'cone',
    flags: { udp: [`${SERVER.v4}:3478`] },
    firewall: 'meta l4proto { tcp, udp } th dport 3478 drop',
    causes: ['port-closed'],
    says: [
      'The server cannot be reached on UDP 3478, TCP 3478 and TLS 3478; calls work over TCP 443.',
      'Le serveur est injoignable sur UDP 3478, TCP 3478 et TLS 3478 ; les appels passent par TCP 443.',
    ],
  },
  'wrong-public-address': {
    router: 'cone',
    flags: { 'public-ip': [`203.0.113.99/${SERVER.v4}`] },
    causes: ['wrong-public-address'],
    says: [
      'The server gives out a wrong public address (203.0.113.99); calls work only where both sides use the relay.',
      'Le serveur annonce une mauvaise adresse publique (203.0.113.99) ; les appels ne passent que si les deux côtés utilisent le relais.',
    ],
  },
  'wrong-public-address-seen': {
    router: 'none',
    flags: { 'public-ip': [`203.0.113.99/${SERVER.v4}`] },
    causes: ['wrong-public-address'],
    says: [
      'The server gives out a wrong public address (203.0.113.99); calls work only where both sides use the relay.',
      'Le serveur annonce une mauvaise adresse publique (203.0.113.99) ; les appels ne passent que si les deux côtés utilisent le relais.',
    ],
  },
  'credential-expired': {
    router: 'cone',
    credential: (secret) => credential(secret, -60),
    causes: ['credential-expired'],
    says: [
      'The credential for the relay has expired, so the relay refuses it; no call gets through the relay.',
      'L’identifiant du relais a expiré, le relais le refuse donc ; aucun appel ne passe par le relais.',
    ],
  },
  'credential-wrong': {
    router: 'cone',
    credential: () => credential('another secret, of good length', 600),
    causes: ['credential-wrong'],
    says: [
      'The relay refuses its credential; no call gets through the relay.',
      'Le relais refuse son identifiant ; aucun appel ne passe par le relais.',
    ],
  },
  'certificate-untrusted': {
    router: 'cone',
    stranger: true,
    causes: ['certificate-untrusted'],
    says: [
      'This browser does not trust the server’s certificate for TURN over TLS; calls work over UDP.',
      'Ce navigateur ne reconnaît pas le certificat du serveur pour TURN par TLS ; les appels passent par UDP.',
    ],
  },
  'relay-range-firewalled': {
    router: 'cone',
    firewall: `udp dport ${RANGE} drop`,
    causes: ['relay-range-firewalled'],
    says: [
      `A firewall closes the relay’s ports (UDP ${RANGE}); calls work only where both sides use the relay.`,
      `Un pare-feu ferme les ports du relais (UDP ${RANGE}) ; les appels ne passent que si les deux côtés utilisent le relais.`,
    ],
  },
  'relay-range-firewalled-silent': {
    router: 'cone',
    firewall: `udp dport ${RANGE} drop`,
    firewallOut: `udp sport ${RANGE} drop`,
    causes: ['relay-range-firewalled'],
    says: [
      `A firewall closes the relay’s ports (UDP ${RANGE}); calls work only where both sides use the relay.`,
      `Un pare-feu ferme les ports du relais (UDP ${RANGE}) ; les appels ne passent que si les deux côtés utilisent le relais.`,
    ],
  },
};

const { binary, chosen } = parseArguments(process.argv.slice(2));
const directory = mkdtempSync(join(tmpdir(), 'relais-faults-'));
let failed = 0;
try {
  createPublicSegment();
  for (const name of chosen) {
    const started = performance.now();
    const seconds = () => ((performance.now() - started) / 1000).toFixed(1);
    try {
      console.log(`ok    ${name}: ${await stage(name, FAULTS[name])} (${seconds()} s)`);
    } catch (error) {
      failed += 1;
      console.log(`FAIL  ${name} (${seconds()} s): ${error.stack ?? error}`);
    }
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}
console.log(`${chosen.length - failed} passed, ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;

function parseArguments(words) {
  let file = join(here, '../../target/debug/relais');
  const names = [];
  while (words.length > 0) {
    const word = words.shift();
    if (word === '--binary') file = words.shift();
    else if (Object.hasOwn(FAULTS, word)) names.push(word);
    else throw new Error(`${word} is not one of ${Object.keys(FAULTS).join(', ')}`);
  }
  return { binary: resolve(file), chosen: names.length > 0 ? names : Object.keys(FAULTS) };
}

/** One fault, with a server of its own. Returns what to print of it. */
async function stage(name, fault) {
  const place = join(directory, name);
  const server = await startServer(binary, place, fault.flags);
  let browser;
  try {
    const side = createSide('a', fault.router);
    connectRouted([side]);
    if (fault.reached) await reach();
    firewall(fault);
    const options = { permissions: [], ignoreHTTPSErrors: Boolean(fault.stranger) };
    browser = await startBrowser('a', place, fault.stranger ? null : server.ready.ca, options);
    if (fault.credential) await replaceCredential(browser.page, fault.credential(readFileSync(join(place, 'state/turn-secret'), 'utf8').trim()));
    const report = await check(browser.page, server.ready.invite, fault);
    assertNamed(report, fault);
    return `${report.verdict.status}, ${report.seconds} s`;
  } catch (error) {
    const said = browser?.messages.slice(-20).map((text) => `  page ${text}`) ?? [];
    error.stack = [error.stack, ...said, ...server.log.slice(-20).map((line) => `  server ${line}`)].join('\n');
    throw error;
  } finally {
    await browser?.close();
    await server.stop();
    removeSides();
    exec('srv', ['nft', 'flush', 'ruleset']);
  }
}

/** Somebody else reaches the server over UDP. */
async function reach() {
  const command = ['netns', 'exec', 'wan', process.execPath, join(here, 'probe.mjs'), 'udp', `${SERVER.v4}:3478`];
  const { stdout } = await promisify(execFile)('ip', command);
  assert.ok(Object.values(JSON.parse(stdout))[0], `the server answers: ${stdout}`);
}

function firewall({ firewall: input, firewallOut: output }) {
  const chain = (hook, rule) => (rule ? `chain ${hook} { type filter hook ${hook} priority 0; ${rule}; }` : '');
  if (input) exec('srv', ['nft', '-f', '-'], `table inet fault {\n${chain('input', input)}\n${chain('output', output)}\n}\n`);
}

/** A time-limited credential (draft-uberti-behave-turn-rest section 2.2) that ends in `seconds`. */
function credential(secret, seconds) {
  const username = `${Math.floor(Date.now() / 1000) + seconds}:c.fault`;
  return { username, credential: createHmac('sha1', secret).update(username).digest('base64') };
}

/** As where another machine makes the credentials: the page is given `made`, all else is the server's. */
function replaceCredential(page, made) {
  return page.addInitScript((given) => {
    const real = window.fetch;
    window.fetch = async (...parameters) => {
      const answer = await real(...parameters);
      if (!String(parameters[0]).startsWith('/api/ice')) return answer;
      const body = await answer.json();
      for (const entry of body.iceServers) if (entry.username) Object.assign(entry, given);
      return Response.json(body);
    };
  }, made);
}

/** Opens the page as a visitor, waits for the verdict, and gives the report with the verdict in both languages. */
async function check(page, invite, { whole }) {
  await page.goto(`https://${SERVER.v4}/check#t=${invite}`);
  if (!whole) {
    // The calls through the relay have a test of their own: whoever has seen enough stops here.
    await page.locator('#doing[data-text^="check.stage.passage"], body[data-checked]').first().waitFor({ timeout: CHECK_DEADLINE_MS, state: 'attached' });
    if (!(await page.locator('body[data-checked]').count())) await page.click('#again');
  }
  await page.locator('body[data-checked]').waitFor({ timeout: CHECK_DEADLINE_MS, state: 'attached' });
  const says = [];
  for (const language of ['en', 'fr']) {
    await page.click(`[data-language=${language}]`);
    says.push(await page.locator('#verdict-title').textContent());
  }
  const saved = page.waitForEvent('download');
  await page.click('#download-report');
  const text = readFileSync(await (await saved).path(), 'utf8');
  assert.doesNotMatch(text, new RegExp(`${invite.slice(-30)}|"credential"|"username"|c\\.fault`), 'the report holds no secret');
  return { ...JSON.parse(text), says };
}

function assertNamed(report, { causes, says, nat, whole }) {
  const detail = JSON.stringify({ ...report, works: undefined }, null, 1);
  assert.deepEqual(report.verdict.causes, causes, detail);
  assert.deepEqual(report.says, says, detail);
  if (nat) assert.equal(report.nat.kind, nat, detail);
  if (causes.length === 0) assert.equal(report.outside.state, 'ok', detail);
  if (!whole) return;
  for (const transport of ['udp', 'tcp', 'tls']) {
    const { ok, received, mbps } = report.relay[transport] ?? {};
    assert.ok(ok && received > 90 && mbps > 0.1, `${transport}: ${detail}`);
  }
}
