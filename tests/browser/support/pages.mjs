// Pages that are not ours, on a server of their own: another origin than Relais, as people have it.

import { readFileSync } from "node:fs";
import { createServer } from "node:http";

const CLIENT = new URL("../node_modules/socket.io-client/dist/socket.io.min.js", import.meta.url);
const README = new URL("../../../README.md", import.meta.url);
const SCRIPTS = /<script/;

/**
 * Serves the pages of `pages/` and the README's call page, `readme.html`. `?ice=ADDRESS` puts the one line with that
 * address before a page's own scripts; `?server=` is what the README's page has as `https://relais.example`.
 */
export async function servePages() {
  const files = createServer((request, response) => {
    const url = new URL(request.url, "http://localhost");
    const page = /^\/(room|by-id|live|readme|plain)\.html$/.exec(url.pathname)?.[1];
    if (url.pathname === "/socket.io.min.js") return answer(response, "text/javascript", readFileSync(CLIENT));
    if (!page) return response.writeHead(url.pathname === "/favicon.ico" ? 204 : 404).end();
    answer(response, "text/html; charset=utf-8", withLine(read(page, url), url.searchParams.get("ice")));
  });
  await new Promise((done) => files.listen(0, "127.0.0.1", done));
  const origin = `http://localhost:${files.address().port}`;
  return {
    origin,
    address: (name, query = {}) => `${origin}/${name}.html?${new URLSearchParams(query)}`,
    close: () => files.close(),
  };
}

function read(page, url) {
  if (page === "plain") return "<!doctype html><meta charset=utf-8><title>Plain</title><script></script>";
  if (page !== "readme") return readFileSync(new URL(`../pages/${page}.html`, import.meta.url), "utf8");
  return readmePage().replaceAll("https://relais.example", url.searchParams.get("server"));
}

/** The call page that the README shows, as it stands there. */
export function readmePage() {
  const [, page] = /```html\n(<!doctype html>\n[^]*?)```/.exec(readFileSync(README, "utf8"));
  return page;
}

export function withLine(page, address) {
  return address ? page.replace(SCRIPTS, `<script src="${address}"></script>\n<script`) : page;
}

function answer(response, type, body) {
  response.setHeader("Content-Type", type);
  response.end(body);
}
