// What the gateway is asked. A failure is an Error whose message can be shown as it is.

export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

// The words of a failed answer: the gateway's own where it sent some.
export function failureWords(status, body) {
  try {
    const words = JSON.parse(body).error;
    if (typeof words === "string") return words;
  } catch {
    // Not from the gateway, perhaps from a proxy before it.
  }
  return status ? `The gateway answered ${status}.` : "The gateway does not answer.";
}

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The gateway does not answer.", 0);
  }
  if (!response.ok) throw new ApiError(failureWords(response.status, await response.text()), response.status);
  return response;
}

async function json(path, options) {
  return (await ask(path, options)).json();
}

export const info = (signal) => json("/info", { signal });
export const nodes = (signal) => json("/nodes", { signal });
export const history = (signal) => json("/history", { signal });
export const fileStatus = (hash) => json(`/files/${hash}/status`);
export const deleteFile = (hash) => json(`/files/${hash}`, { method: "DELETE" });
export const why = (hash) => json(`/admin/why/${hash}`);

export function listFiles({ after, prefix, limit }, signal) {
  const query = new URLSearchParams({ limit });
  if (after) query.set("after", after);
  if (prefix) query.set("prefix", prefix);
  return json(`/files?${query}`, { signal });
}

// The file of this hash as the list has it, or null. Asked by the list and not by HEAD, since browsers report a 404 as an
// error of the page, and a file that is not there yet is none.
export async function findFile(hash) {
  const page = await listFiles({ prefix: hash, limit: 1 });
  return page.files[0] ?? null;
}

export function downloadPath(hash, name) {
  const query = new URLSearchParams({ hash });
  if (name) query.set("name", name);
  return `/download?${query}`;
}

// The lines of a table as they come, parsed.
export async function* dumpLines(table, signal) {
  const response = await ask(`/admin/dump/${table}`, { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) yield JSON.parse(line);
    }
  } finally {
    // A reader that has seen enough stops the dump, too.
    await reader.cancel().catch(() => {});
  }
}
