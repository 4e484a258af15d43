// Names of rooms: easy to say on the telephone, and what people type or paste made into one.

const WORDS = {
  en: [
    ["amber", "bold", "brave", "bright", "calm", "clever", "cosy", "crisp", "eager", "early", "fair", "gentle", "golden",
      "happy", "honest", "jolly", "kind", "lively", "lucky", "mellow", "merry", "misty", "noble", "proud", "quick",
      "quiet", "silver", "sunny", "swift", "warm", "wild", "wise"],
    ["badger", "bear", "bee", "comet", "crane", "deer", "dolphin", "eagle", "falcon", "finch", "fox", "hare", "harbour",
      "heron", "island", "lake", "lark", "lynx", "maple", "meadow", "otter", "owl", "panda", "pine", "raven", "river",
      "robin", "salmon", "seal", "swan", "tiger", "willow"],
  ],
  fr: [
    ["ancre", "baie", "barque", "brise", "cabane", "cime", "colline", "campagne", "dune", "ferme", "fontaine", "falaise",
      "gare", "grange", "cascade", "lagune", "lande", "loutre", "lune", "mouette", "oasis", "orange", "plage", "plaine",
      "prairie", "renarde", "rive", "source", "tortue", "tour", "violette", "vigne"],
    ["agile", "aimable", "brave", "calme", "chantante", "claire", "douce", "fine", "franche", "gaie", "grande", "grise",
      "habile", "haute", "jaune", "jolie", "libre", "lointaine", "noble", "paisible", "petite", "rapide", "rare",
      "ronde", "rose", "rouge", "sage", "souriante", "sereine", "tranquille", "verte", "vive"],
  ],
};

/** A new name such as `calm-otter-427`. */
export function randomRoomName(language = "en", random = pick) {
  const [first, second] = WORDS[language] ?? WORDS.en;
  return `${first[random(first.length)]}-${second[random(second.length)]}-${100 + random(900)}`;
}

function pick(count) {
  return crypto.getRandomValues(new Uint32Array(1))[0] % count;
}

/** Is it 1 to 64 characters of `A-Z a-z 0-9 . _ ~ -`, as PROTOCOL.md wants? */
export function isRoomName(name) {
  return /^[A-Za-z0-9._~-]{1,64}$/.test(name);
}

/** Makes a room name of what somebody typed: `Chez Zoé` is `chez-zoe`. Empty when nothing is left. */
export function toRoomName(text) {
  return text
    .normalize("NFD")
    .replace(/[\u0300-\u036f]/g, "")
    .trim()
    .toLowerCase()
    .replace(/[^a-z0-9._~-]+/g, "-")
    .replace(/^-+|-+$/g, "")
    .slice(0, 64);
}

/**
 * Understands a pasted link or a typed name.
 * Returns `{ room, hash }` for a room here, `{ href }` for a link to another server, `{ hash }` for an invite to the
 * home page, `null` for nothing usable.
 */
export function understand(text, origin) {
  const trimmed = text.trim();
  if (!/^(https?:\/\/|\/)/i.test(trimmed)) {
    const room = toRoomName(trimmed);
    return room ? { room, hash: "" } : null;
  }
  let url;
  try {
    url = new URL(trimmed, origin);
  } catch {
    return null;
  }
  if (url.origin !== origin) return { href: url.href };
  const room = roomIn(url.pathname);
  if (room) return { room, hash: url.hash };
  return url.hash ? { hash: url.hash } : null;
}

/** The room of a path `/call/{room}`, `null` when there is none or it is not well formed. */
export function roomIn(path) {
  const match = /^\/call\/([^/]+)\/?$/.exec(path);
  if (!match) return null;
  try {
    const room = decodeURIComponent(match[1]);
    return isRoomName(room) ? room : null;
  } catch {
    return null;
  }
}
