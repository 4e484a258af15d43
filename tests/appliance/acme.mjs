// The ACME side of the appliance against Pebble, in a network namespace (see `acme`).
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import tls from 'node:tls';

const DOMAIN = 'call.example.test';
const ELSEWHERE = 'elsewhere.example.test';
const PUBLIC = '192.0.2.10';
const OTHER = '192.0.2.99';
// Seconds a certificate lives here: renewed at half of it.
const LIFE = 16;

const scratch = mkdtempSync(join(tmpdir(), 'relais-acme-'));
const file = (name) => join(scratch, name);
const children = new Set();

function run(program, ...args) {
    return execFileSync(program, args, { stdio: ['ignore', 'pipe', 'pipe'] }).toString();
}

function start(program, args, env = {}) {
    const child = spawn(program, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    children.add(child);
    child.lines = [];
    for (const stream of [child.stdout, child.stderr]) {
        createInterface({ input: stream }).on('line', (line) => child.lines.push(line));
    }
    child.ended = new Promise((resolve) => child.on('exit', (code, signal) => {
        children.delete(child);
        resolve({ code, signal });
    }));
    return child;
}

async function stop(child, signal = 'SIGTERM') {
    child.kill(signal);
    return child.ended;
}

async function until(what, seconds, probe) {
    const deadline = Date.now() + seconds * 1000;
    for (;;) {
        const found = await probe();
        if (found) return found;
        if (Date.now() > deadline) throw new Error(`${what}: not within ${seconds} s`);
        await new Promise((resolve) => setTimeout(resolve, 50));
    }
}

const said = (child, text) => () => child.lines.find((line) => line.includes(text));

function network() {
    run('ip', 'link', 'set', 'lo', 'up');
    for (const address of [PUBLIC, OTHER]) run('ip', 'address', 'add', `${address}/32`, 'dev', 'lo');
    writeFileSync(file('hosts'), `127.0.0.1 localhost ${DOMAIN}\n${OTHER} ${ELSEWHERE}\n`);
    run('mount', '--bind', file('hosts'), '/etc/hosts');
}

// An authority for Pebble's own server, since its directory is asked for over HTTPS too.
function authority() {
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
    run('openssl', 'req', '-x509', ...key, '-keyout', file('ca.key'), '-out', file('ca.pem'), '-days', '2', '-subj', '/CN=Test');
    run('openssl', 'req', ...key, '-keyout', file('pebble.key'), '-out', file('pebble.csr'), '-subj', '/CN=localhost');
    writeFileSync(file('ext'), 'subjectAltName=DNS:localhost');
    run('openssl', 'x509', '-req', '-in', file('pebble.csr'), '-CA', file('ca.pem'), '-CAkey', file('ca.key'), '-CAcreateserial',
        '-out', file('pebble.pem'), '-days', '2', '-extfile', file('ext'));
}

async function pebble() {
    const config = {
        pebble: {
            listenAddress: '127.0.0.1:14000',
            managementListenAddress: '127.0.0.1:15000',
            certificate: file('pebble.pem'),
            privateKey: file('pebble.key'),
            httpPort: 80,
            tlsPort: 443,
            ocspResponderURL: '',
            certificateValidityPeriod: LIFE,
        },
    };
    writeFileSync(file('pebble.json'), JSON.stringify(config));
    const child = start(process.env.PEBBLE, ['-config', file('pebble.json')], { PEBBLE_VA_NOSLEEP: '1', PEBBLE_AUTHZREUSE: '0' });
    await until('Pebble listens', 10, said(child, 'ACME directory available'));
    return child;
}

async function relais(state, { tcp = [], http = [], names, email }) {
    const list = (addresses) => `[${addresses.map((address) => `"${address}"`).join(', ')}]`;
    writeFileSync(file('relais.toml'), `
        log_format = "json"
        [turn]
        udp = ["127.0.0.1:0"]
        ${names.ip ? `public_ip = ["${names.ip}"]` : ''}
        [web]
        tcp = ${list(tcp)}
        http = ${list(http)}
        ${names.domain ? `domain = "${names.domain}"` : ''}
        [tls]
        acme = true
        acme_directory = "https://localhost:14000/dir"
        acme_ca_file = "${file('ca.pem')}"
        ${email ? `acme_email = "${email}"` : ''}
    `);
    const child = start(process.env.RELAIS_BIN, ['serve', '--config', file('relais.toml'), '--state-dir', file(state)]);
    await until('Relais is ready', 15, said(child, '"event":"ready"'));
    return child;
}

// What the operator sees.
function status(state, ...flags) {
    return run(process.env.RELAIS_BIN, 'status', '--state-dir', file(state), ...flags);
}

function handshake(host, port, servername) {
    return new Promise((resolve, reject) => {
        const socket = tls.connect({ host, port, servername, rejectUnauthorized: false }, () => {
            const { serialNumber, issuer, subjectaltname } = socket.getPeerCertificate();
            socket.destroy();
            resolve({ serial: serialNumber, issuer: issuer.CN ?? '', names: subjectaltname ?? '' });
        });
        socket.setTimeout(5000, () => socket.destroy(new Error('no handshake within 5 s')));
        socket.on('error', reject);
    });
}

// Shakes hands all along; a failure of one is a failure of the test.
function visitor(host, port, servername) {
    const seen = { count: 0, failures: [], serials: [], issuer: '', names: '' };
    let going = true;
    const ended = (async () => {
        while (going) {
            try {
                const { serial, issuer, names } = await handshake(host, port, servername);
                seen.count += 1;
                Object.assign(seen, { issuer, names });
                if (seen.serials.at(-1) !== serial) seen.serials.push(serial);
            } catch (error) {
                seen.failures.push(error.message);
            }
            await new Promise((resolve) => setTimeout(resolve, 40));
        }
    })();
    return { seen, end: async () => { going = false; await ended; return seen; } };
}

const isIssued = (seen) => () => seen.issuer.startsWith('Pebble');

async function domainOverTls() {
    let ca = await pebble();
    const listeners = { tcp: ['127.0.0.1:443'], names: { domain: DOMAIN }, email: 'ada@example.org' };
    let server = await relais('domain', listeners);
    let guest = visitor('127.0.0.1', 443, DOMAIN);
    await until('the local CA serves first, then the authority\'s certificate', 20, isIssued(guest.seen));
    assert.ok(guest.seen.names.includes(DOMAIN), guest.seen.names);
    const stored = statSync(join(file('domain'), 'acme', 'certificate.pem'));
    assert.equal(stored.mode & 0o777, 0o600);
    const first = guest.seen.serials.length;
    await until('two renewals', LIFE * 3, () => guest.seen.serials.length >= first + 2);

    await stop(ca, 'SIGKILL');
    await until('the failure is named', LIFE * 2, said(server, 'no certificate'));
    const line = JSON.parse(server.lines.find((text) => text.includes('no certificate')));
    assert.equal(line.level, 'ERROR');
    assert.ok(line.next_attempt_in >= 200, `next attempt in ${line.next_attempt_in} s`);
    const { certificate } = JSON.parse(status('domain', '--json'));
    assert.equal(certificate.acmeFailures, 1);
    assert.ok(Math.abs(certificate.acmeFailingSince - Date.now() / 1000) < 60, certificate.acmeFailingSince);
    assert.match(status('domain'), /by ACME, .*; ACME fails since .* UTC: /);
    const before = guest.seen.count;
    await until('handshakes go on without the authority', 10, () => guest.seen.count > before + 5);
    let seen = await guest.end();
    assert.deepEqual(seen.failures, []);
    console.log(`domain, TLS-ALPN-01: ${seen.count} handshakes, ${seen.serials.length} certificates, none failed`);
    await stop(server);

    // A new Pebble knows no account of ours and issues from other roots.
    ca = await pebble();
    server = await relais('domain', listeners);
    guest = visitor('127.0.0.1', 443, DOMAIN);
    const old = seen.serials.at(-1);
    await until('a certificate from the new authority', LIFE * 2, () => isIssued(guest.seen)() && guest.seen.serials.at(-1) !== old);
    assert.ok(server.lines.some((text) => text.includes('does not know our account')), 'the lost account is named');
    seen = await guest.end();
    assert.deepEqual(seen.failures, []);
    await stop(server);
    await stop(ca);
}

async function domainOverHttp() {
    const ca = await pebble();
    const server = await relais('http', { tcp: ['127.0.0.1:80'], names: { domain: DOMAIN } });
    const guest = visitor('127.0.0.1', 80, DOMAIN);
    await until('a certificate by HTTP-01', 20, isIssued(guest.seen));
    const seen = await guest.end();
    assert.deepEqual(seen.failures, []);
    console.log(`domain, HTTP-01: ${seen.count} handshakes, none failed`);
    await stop(server);
    await stop(ca);
}

async function addresses() {
    const ca = await pebble();
    for (const [port, name] of [[443, 'TLS-ALPN-01'], [80, 'HTTP-01']]) {
        const server = await relais(`address-${port}`, { tcp: [`${PUBLIC}:${port}`], names: { ip: PUBLIC } });
        const guest = visitor(PUBLIC, port, '');
        await until(`a certificate for ${PUBLIC} by ${name}`, 20, isIssued(guest.seen));
        const seen = await guest.end();
        assert.deepEqual(seen.failures, []);
        assert.ok(seen.names.includes(`IP Address:${PUBLIC}`), seen.names);
        console.log(`address, ${name}: ${seen.count} handshakes, none failed`);
        await stop(server);
    }
    await stop(ca);
}

// The name leads to another machine, which answers with a certificate of its own.
async function wrongPlace() {
    const ca = await pebble();
    const options = { key: readFileSync(file('pebble.key')), cert: readFileSync(file('pebble.pem')), ALPNProtocols: ['acme-tls/1'] };
    const stranger = tls.createServer(options, (socket) => socket.destroy());
    stranger.on('tlsClientError', () => {});
    await new Promise((resolve) => stranger.listen(443, OTHER, resolve));
    const server = await relais('wrong', { tcp: ['127.0.0.1:443', '127.0.0.1:80'], names: { domain: ELSEWHERE } });
    const guest = visitor('127.0.0.1', 443, ELSEWHERE);
    await until('the failure is named', 30, said(server, 'no certificate'));
    const line = server.lines.find((text) => text.includes('no certificate'));
    for (const part of [ELSEWHERE, 'TCP 443', 'TCP 80']) assert.ok(line.includes(part), line);
    const seen = await guest.end();
    assert.deepEqual(seen.failures, []);
    assert.ok(seen.issuer.includes('Relais'), `the local CA serves: ${seen.issuer}`);
    console.log('a name that leads elsewhere: named in the log, the local CA serves on');
    stranger.close();
    await stop(server);
    await stop(ca);
}

try {
    network();
    authority();
    for (const scenario of [domainOverTls, domainOverHttp, addresses, wrongPlace]) await scenario();
} catch (error) {
    for (const child of children) console.error(child.lines.slice(-30).join('\n'));
    console.error(error);
    process.exitCode = 1;
} finally {
    for (const child of children) child.kill('SIGKILL');
    run('umount', '/etc/hosts');
    rmSync(scratch, { recursive: true, force: true });
    // A visitor of a failed scenario would go on.
    process.exit();
}
