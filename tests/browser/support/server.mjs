// Our server as a process of its own, in a state directory of its own, on free ports of loopback.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const BINARY = process.env.RELAIS_BIN ?? fileURLToPath(new URL("../../../target/debug/relais", import.meta.url));
const START_DEADLINE = 60_000;

/** Relay ports below those that the system hands out, so that a restart may name its own ports again. */
const DEFAULTS = { udp: "127.0.0.1:0", tcp: "127.0.0.1:0", turns: "always", "relay-ports": "10000-29999" };

/**
 * Starts `relais serve`. `flags` replaces or adds flags by name (without dashes); a list repeats the flag. `settings` is
 * the text of a configuration file.
 */
export async function startServer(flags = {}, settings = null) {
  const directory = mkdtempSync(join(tmpdir(), "relais-browser-"));
  if (settings) {
    const config = join(directory, "relais.toml");
    writeFileSync(config, settings);
    flags = { ...flags, config };
  }
  const server = new Server(directory, { ...DEFAULTS, ...flags });
  await server.start();
  return server;
}

class Server {
  #directory;
  #flags;
  #child = null;
  #log = [];

  constructor(directory, flags) {
    this.#directory = directory;
    this.#flags = flags;
  }

  /** The `ready` line. */
  ready = null;

  get log() {
    return this.#log.slice(-12).join("\n");
  }

  /** Every line of the log so far that is JSON. */
  get entries() {
    return this.#log.filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
  }

  get ca() {
    return join(this.#directory, "state", "ca.pem");
  }

  /** What a browser on this machine opens: the certificate covers `localhost`. */
  get origin() {
    return `https://localhost:${port(this.ready.tcp[0])}`;
  }

  link(room, query = "") {
    return `${this.origin}/call/${room}${query}#t=${this.ready.invite}`;
  }

  async start() {
    const listed = Object.entries(this.#flags).flatMap(([name, value]) => [value].flat().flatMap((one) => [`--${name}`, one]));
    const state = join(this.#directory, "state");
    const child = spawn(BINARY, ["serve", "--log-format", "json", "--state-dir", state, ...listed], {
      stdio: ["ignore", "ignore", "pipe"],
      // Every test ends with pages in a call.
      env: { ...process.env, RELAIS_DRAIN_TIMEOUT: "0s" },
    });
    this.#child = child;
    this.ready = await new Promise((done, fail) => {
      const late = setTimeout(() => fail(new Error(`no ready line in ${START_DEADLINE} ms:\n${this.log}`)), START_DEADLINE);
      child.on("error", fail);
      child.on("exit", (code) => fail(new Error(`the server ended with ${code}:\n${this.log}`)));
      createInterface({ input: child.stderr }).on("line", (line) => {
        this.#log.push(line);
        if (!line.includes('"event":"ready"')) return;
        clearTimeout(late);
        done(JSON.parse(line));
      });
    });
  }

  /** Ends the process and waits for it. SIGKILL leaves it no time to say goodbye. */
  async halt(signal = "SIGTERM") {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((done) => child.on("exit", done));
    child.kill(signal);
    await ended;
  }

  /** Starts again after `halt`, on the ports it had. */
  async again() {
    Object.assign(this.#flags, { udp: this.ready.udp, tcp: this.ready.tcp });
    if (this.ready.http?.length > 0) this.#flags.http = this.ready.http;
    await this.start();
  }

  async stop() {
    await this.halt();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

/** The port of `address:port`. */
export function port(address) {
  return Number(address.slice(address.lastIndexOf(":") + 1));
}
