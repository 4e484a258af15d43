// A link as a QR code, drawn by the server: dark on white in every colour scheme, as phones want it.

import { say, text } from "./i18n.js";

/**
 * Shows the QR code of `link` in `container`, in place of what was there: a dialog's part, a card. The image carries the
 * class `qr`. Gives the image; `null`, and a sentence in the container, when the server did not draw it. A second call
 * for the same container wins over a first that is still under way.
 */
export async function showQr(container, link) {
  const request = new AbortController();
  pending.get(container)?.abort();
  pending.set(container, request);
  container.setAttribute("aria-busy", "true");
  try {
    const image = await draw(link, request.signal);
    if (pending.get(container) !== request) return null;
    container.replaceChildren(image);
    return image;
  } catch {
    if (pending.get(container) !== request) return null;
    const problem = document.createElement("p");
    problem.className = "qr-problem";
    say(problem, "qr.problem");
    container.replaceChildren(problem);
    return null;
  } finally {
    if (pending.get(container) === request) {
      pending.delete(container);
      container.removeAttribute("aria-busy");
    }
  }
}

/** Which request a container waits for. */
const pending = new WeakMap();

async function draw(link, signal) {
  const headers = { "Content-Type": "text/plain;charset=utf-8" };
  const answer = await fetch("/api/qr", { method: "POST", body: link, headers, signal });
  if (!answer.ok) throw new Error(`no QR code: ${answer.status}`);
  const address = URL.createObjectURL(await answer.blob());
  const image = new Image();
  image.className = "qr";
  image.dataset.alt = "qr.alt";
  image.alt = text("qr.alt");
  image.src = address;
  try {
    await image.decode();
  } finally {
    // What is decoded is kept by the image itself.
    URL.revokeObjectURL(address);
  }
  return image;
}
