// The names of uploaded files. The store knows hashes only, so they stay in this browser; the oldest go first.

const KEY = "richardstore.names";
const MAX_NAMES = 2000;

export function fileName(name) {
  return name.split("/").at(-1);
}

function load() {
  try {
    const stored = JSON.parse(localStorage.getItem(KEY));
    return new Map(Array.isArray(stored) ? stored.filter((pair) => Array.isArray(pair) && typeof pair[1] === "string") : []);
  } catch {
    return new Map();
  }
}

function save(names) {
  try {
    localStorage.setItem(KEY, JSON.stringify([...names].slice(-MAX_NAMES)));
  } catch {
    // Storage is full or off: the name is lost, the file is not.
  }
}

export function nameOf(hash) {
  return load().get(hash) ?? "";
}

export function allNames() {
  return load();
}

// Read anew each time: another tab may have written.
export function remember(hash, name) {
  const names = load();
  names.delete(hash);
  // Without the folders it came in: a download is one file.
  names.set(hash, fileName(name).slice(0, 200));
  save(names);
}

export function forget(hash) {
  const names = load();
  if (names.delete(hash)) save(names);
}
