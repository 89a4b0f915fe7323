// The rows of the uploads: how far each is, and what can be done about it. Bounded: of those that ended well only the last
// stay.

import { button, copyButton, element, text } from "./dom.js";
import { bytes, counted, duration, rate } from "./format.js";
import { downloadPath } from "./api.js";
import { fileName } from "./names.js";

const MAX_ROWS = 50;

function progressWords(upload) {
  const { file, sent, hashed, state } = upload;
  const hashing = hashed < file.size ? `, hashed ${Math.floor((100 * hashed) / file.size)} %` : "";
  if (state === "hashing") return `Computing its hash, to send it only if it is new${hashed ? `: ${bytes(hashed)} of ${bytes(file.size)}` : ""}`;
  if (state === "storing") return upload.hash || !hashing ? upload.reason : `${upload.reason.replace(/\.$/, "")}${hashing}.`;
  const left = upload.rate > 0 ? `, ${duration(((file.size - sent) / upload.rate) * 1000)} left` : "";
  return `${bytes(sent)} of ${bytes(file.size)}, ${rate(upload.rate)}${left}${file.size > 64 << 20 ? hashing : ""}`;
}

const ENDS = {
  stored: (upload) => `Stored: ${bytes(upload.file.size)} on ${counted(upload.replicas, "datanode")}. The hash computed here is the store's.`,
  known: (upload) => `Already in the store, on ${counted(upload.replicas, "datanode")}; not stored again.`,
  failed: (upload) => `Failed: ${upload.reason}`,
  cancelled: (upload) => upload.reason,
};

export class UploadRow {
  constructor(upload, retry) {
    this.upload = upload;
    this.progress = element("progress", { max: 1, value: 0, "aria-label": `Upload of ${upload.name}` });
    this.words = element("span", { class: "words" });
    this.actions = element("span", { class: "actions" }, button("Cancel", () => upload.cancel(), { class: "quiet", "aria-label": `Cancel ${upload.name}` }));
    this.root = element("li", { class: "upload" },
      element("span", { class: "name" }, upload.name), this.progress, this.words, this.actions);
    this.retry = retry;
    upload.addEventListener("change", () => this.show());
    this.show();
  }

  show() {
    const { upload } = this;
    this.root.dataset.state = upload.state;
    if (upload.isOver) {
      this.#end();
      return;
    }
    const { size } = upload.file;
    const done = upload.state === "hashing" ? upload.hashed : upload.sent;
    this.progress.value = size === 0 ? 1 : done / size;
    text(this.words, progressWords(upload));
  }

  #end() {
    const { upload } = this;
    this.progress.remove();
    text(this.words, ENDS[upload.state](upload));
    const again = button("Retry", () => {
      this.root.remove();
      this.retry(upload);
    }, { class: "quiet", "aria-label": `Retry ${upload.name}` });
    const open = upload.state === "stored" || upload.state === "known";
    this.actions.replaceChildren(...(open
      ? [element("a", { href: `#/files/${upload.hash}` }, "Details"),
        element("a", { href: downloadPath(upload.hash, fileName(upload.name)), download: fileName(upload.name) }, "Download"),
        copyButton("Copy hash", upload.hash)]
      : [again]));
    if (open) this.root.append(element("code", { class: "hash" }, upload.hash));
  }
}

export class UploadList {
  constructor(queue) {
    this.queue = queue;
    this.rows = element("ul", { class: "uploads", "aria-label": "Uploads" });
    this.summary = element("p", { class: "hint", role: "status" });
    this.drop = button("Drop those waiting", () => queue.dropWaiting(), { class: "quiet", hidden: true });
    this.clear = button("Clear the list", () => this.#clear(), { class: "quiet", hidden: true });
    this.root = element("div", {}, element("div", { class: "row" }, this.summary, this.drop, this.clear), this.rows);
    this.counts = { stored: 0, known: 0, failed: 0, cancelled: 0 };
    queue.addEventListener("start", ({ detail }) => this.rows.prepend(new UploadRow(detail, (upload) => queue.retry(upload)).root));
    queue.addEventListener("end", ({ detail }) => {
      this.counts[detail.state] += 1;
      this.#trim();
    });
    queue.addEventListener("change", () => this.#summarize());
  }

  #summarize() {
    const { running, waiting } = this.queue;
    const { stored, known, failed, cancelled } = this.counts;
    const parts = [
      running.size && `${running.size} under way`, waiting.length && `${waiting.length} waiting`, stored && `${stored} stored`,
      known && `${known} already there`, failed && `${failed} failed`, cancelled && `${cancelled} cancelled`,
    ].filter(Boolean);
    text(this.summary, parts.length ? `Uploads: ${parts.join(", ")}.` : "");
    this.drop.hidden = waiting.length === 0;
    this.clear.hidden = stored + known + failed + cancelled === 0;
  }

  #trim() {
    const ended = [...this.rows.children].filter((row) => ["stored", "known", "cancelled"].includes(row.dataset.state));
    for (const row of ended.slice(MAX_ROWS)) row.remove();
  }

  #clear() {
    for (const row of [...this.rows.children]) {
      if (["stored", "known", "failed", "cancelled"].includes(row.dataset.state)) row.remove();
    }
    this.counts = { stored: 0, known: 0, failed: 0, cancelled: 0 };
    this.#summarize();
  }
}
