// One file on its way into the store: hashed here, looked up there, sent where it is new, and the answer compared.
//
// A small file is hashed first, so that one the store has is not sent. A large one is sent while it is hashed; when the
// hash is known early and the store has it, the sending stops.

import { failureWords, findFile } from "./api.js";

const HASH_FIRST_BYTES = 64 << 20;
// The rate is that of the last seconds, not of all the time since the start.
const RATE_WINDOW_MS = 4000;

export class Upload extends EventTarget {
  // waiting, hashing, sending, storing, stored, known, failed or cancelled
  state = "waiting";
  sent = 0;
  hashed = 0;
  hash = "";
  replicas = 0;
  reason = "";
  rate = 0;
  #stop = new AbortController();
  #marks = [];

  constructor(file, name) {
    super();
    this.file = file;
    this.name = name;
  }

  get isOver() {
    return ["stored", "known", "failed", "cancelled"].includes(this.state);
  }

  // Ends when the upload does, however it does.
  async run() {
    if (this.state === "cancelled") return;
    this.sent = this.hashed = 0;
    this.#stop = new AbortController();
    try {
      if (this.file.size <= HASH_FIRST_BYTES) await this.#hashThenSend();
      else await this.#hashAndSend();
    } catch (error) {
      if (this.state !== "cancelled") this.#become("failed", error.message);
    } finally {
      this.#stop.abort();
    }
  }

  cancel() {
    if (this.isOver) return;
    // All of it may be there already, and only the answer is not.
    this.#become("cancelled", this.state === "storing" ? "Cancelled after everything was sent: the store may have it." : "Cancelled; nothing was stored.");
    this.#stop.abort();
  }

  reset() {
    this.reason = "";
    this.#become("waiting");
  }

  async #hashThenSend() {
    this.#become("hashing");
    this.hash = await this.#digest();
    if (await this.#isStored()) return;
    this.#conclude(await this.#send("PUT", `/files/${this.hash}`));
  }

  async #hashAndSend() {
    const digest = this.#digest();
    const sending = this.#send("POST", "/files");
    // Whoever is first; the other's failure is looked at when its turn comes.
    digest.catch(() => {});
    sending.catch(() => {});
    await Promise.race([digest, sending]);
    if (this.hash && this.state === "sending" && (await this.#isStored())) return;
    const answer = await sending;
    this.#become("storing", "On disk; the hash is still being computed here to compare.");
    await digest;
    this.#conclude(answer);
  }

  async #isStored() {
    const file = await findFile(this.hash);
    if (!file || this.isOver) return this.isOver;
    this.replicas = file.replicas;
    this.#become("known");
    return true;
  }

  #conclude(answer) {
    if (answer.hash !== this.hash) {
      this.hash = answer.hash;
      throw new Error("The bytes changed on the way: the store has them under another hash than this browser computed. Was the file being written? Try again.");
    }
    this.replicas = answer.replicas;
    this.#become(answer.created ? "stored" : "known");
  }

  #digest() {
    return new Promise((resolve, reject) => {
      const worker = new Worker(new URL("./hash_worker.js", import.meta.url), { type: "module" });
      this.#stop.signal.addEventListener("abort", () => {
        worker.terminate();
        reject(new Error("Cancelled."));
      });
      worker.addEventListener("error", () => reject(new Error("The hash cannot be computed in this browser.")));
      worker.addEventListener("message", ({ data }) => {
        if (data.failure) reject(new Error(data.failure));
        if (data.hashed) this.hashed = data.hashed;
        if (data.hash) {
          this.hashed = this.file.size;
          this.hash = data.hash;
          resolve(data.hash);
        }
        this.#tell();
      });
      worker.postMessage(this.file);
    });
  }

  // By XMLHttpRequest: fetch does not tell how far an upload is.
  #send(method, path) {
    this.#become("sending");
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      this.#stop.signal.addEventListener("abort", () => request.abort());
      request.upload.addEventListener("progress", (event) => {
        this.#measure(event.loaded);
        this.sent = event.loaded;
        if (this.state === "sending") this.#tell();
      });
      request.upload.addEventListener("load", () => {
        this.sent = this.file.size;
        if (this.state === "sending") this.#become("storing", "Sent; waiting until it is on disk.");
      });
      request.addEventListener("load", () => {
        if (request.status === 200 || request.status === 201) resolve(JSON.parse(request.responseText));
        else reject(new Error(failureWords(request.status, request.responseText)));
      });
      request.addEventListener("error", () => reject(new Error("The connection broke off. Try again: what the store has by then is not sent twice.")));
      request.addEventListener("abort", () => reject(new Error("Cancelled.")));
      request.open(method, path);
      request.setRequestHeader("Content-Type", "application/octet-stream");
      request.send(this.file);
    });
  }

  #measure(sent) {
    const now = performance.now();
    this.#marks.push({ now, sent });
    while (this.#marks.length > 2 && now - this.#marks[0].now > RATE_WINDOW_MS) this.#marks.shift();
    const first = this.#marks[0];
    this.rate = now > first.now ? ((sent - first.sent) * 1000) / (now - first.now) : 0;
  }

  #become(state, reason = "") {
    if (state === "sending") this.#marks = [];
    this.state = state;
    this.reason = reason;
    this.#tell();
  }

  #tell() {
    this.dispatchEvent(new Event("change"));
  }
}
