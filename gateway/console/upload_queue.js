// The uploads of this page: a few at once, the others wait their turn.

import { Upload } from "./upload.js";

// A browser opens six connections to one host; three are left for everything else.
const AT_ONCE = 3;
// A folder may hold more than any page can show; the rest can be dropped again.
export const MAX_WAITING = 10000;

export class UploadQueue extends EventTarget {
  waiting = [];
  running = new Set();

  // Takes as many of `files` ({file, name}) as there is room for, and returns how many it left out.
  add(files) {
    const room = Math.max(0, MAX_WAITING - this.waiting.length);
    for (const { file, name } of files.slice(0, room)) this.waiting.push(new Upload(file, name));
    this.#next();
    return Math.max(0, files.length - room);
  }

  retry(upload) {
    upload.reset();
    this.waiting.push(upload);
    this.#next();
  }

  // Those that have not begun; what is being sent has its own button.
  dropWaiting() {
    this.waiting = [];
    this.#tell("change");
  }

  #next() {
    while (this.running.size < AT_ONCE && this.waiting.length > 0) {
      const upload = this.waiting.shift();
      this.running.add(upload);
      this.#tell("start", upload);
      upload.run().finally(() => {
        this.running.delete(upload);
        this.#tell("end", upload);
        this.#next();
      });
    }
    this.#tell("change");
  }

  #tell(kind, upload) {
    this.dispatchEvent(new CustomEvent(kind, { detail: upload }));
  }
}
