// Files that were dropped or chosen, folders walked to the bottom.

import { MAX_WAITING } from "./upload_queue.js";

// {file, name} of everything in a drop, the name with its folders. Must be called in the event: the browser takes the list away right after it.
export function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (entries.length === 0) return Promise.resolve(chosenFiles(transfer.files));
  return walk(entries);
}

export function chosenFiles(list) {
  return [...list].map((file) => ({ file, name: file.webkitRelativePath || file.name }));
}

async function walk(entries) {
  const found = [];
  const open = [...entries];
  while (open.length > 0 && found.length < MAX_WAITING) {
    const entry = open.shift();
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject)).catch(() => null);
      if (file) found.push({ file, name: entry.fullPath.replace(/^\//, "") });
    } else {
      open.push(...(await children(entry.createReader())));
    }
  }
  return found;
}

// The reader hands out some at a time, and none at the end.
async function children(reader) {
  const all = [];
  while (all.length < MAX_WAITING) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)).catch(() => []);
    if (some.length === 0) break;
    all.push(...some);
  }
  return all;
}
