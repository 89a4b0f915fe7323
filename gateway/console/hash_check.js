// What is wrong with a typed hash, in words a person can act on.

export const HASH_LENGTH = 64;

// The hash in `typed`: what people paste often has spaces around it, or comes with the name that sha256sum prints.
export function cleaned(typed) {
  return typed.trim().split(/\s/)[0] ?? "";
}

// Empty where nothing is wrong.
export function hashFault(hash) {
  const digits = prefixFault(hash);
  if (hash === "") return "Enter the hash of the file.";
  if (digits) return digits;
  if (hash.length < HASH_LENGTH) {
    return `A hash has ${HASH_LENGTH} characters, this has ${hash.length}: ${HASH_LENGTH - hash.length} are missing.`;
  }
  return "";
}

// The same for the beginning of a hash.
export function prefixFault(prefix) {
  const characters = [...prefix];
  const odd = characters.findIndex((character) => !/[0-9a-f]/.test(character));
  if (odd >= 0) {
    if (/[A-F]/.test(characters[odd])) return "Hashes are written in lower case here.";
    return `Character ${odd + 1} (${JSON.stringify(characters[odd])}) is none of 0-9 and a-f.`;
  }
  if (characters.length > HASH_LENGTH) {
    return `A hash has ${HASH_LENGTH} characters, this has ${characters.length}: ${characters.length - HASH_LENGTH} too many.`;
  }
  return "";
}
