// How a person joins a call on our page.

/** Opens the invite link of `room` and joins with camera and microphone. */
export async function joinCall(page, origin, room, invite) {
  await page.goto(`${origin}/call/${room}#t=${invite}`);
  await page.getByRole('button', { name: /join/i }).click();
}
