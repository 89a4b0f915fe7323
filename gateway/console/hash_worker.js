// Hashes one file beside the page: told a File, tells how far it is and, at the end, the hash.

import { Sha256 } from "./sha256.js";

const PIECE_BYTES = 4 << 20;
// Up to this size the browser's own hash, many times faster, gets the whole file at once. It is there on https and localhost
// only.
const WHOLE_BYTES = 64 << 20;

async function hashWhole(file) {
  const digest = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function hashInPieces(file) {
  const digest = new Sha256();
  for (let at = 0; at < file.size; at += PIECE_BYTES) {
    const piece = await file.slice(at, at + PIECE_BYTES).arrayBuffer();
    digest.update(new Uint8Array(piece));
    self.postMessage({ hashed: Math.min(at + PIECE_BYTES, file.size) });
  }
  return digest.hex();
}

self.addEventListener("message", async ({ data: file }) => {
  try {
    const whole = crypto.subtle && file.size <= WHOLE_BYTES;
    self.postMessage({ hash: whole ? await hashWhole(file) : await hashInPieces(file) });
  } catch (error) {
    self.postMessage({ failure: `The file cannot be read: ${error.message}` });
  }
});
