// Files: put some in, get one by its hash, see what is there.

import * as api from "./api.js";
import { button, element, table, text } from "./dom.js";
import { age, bytes, moment, shortHash } from "./format.js";
import { chosenFiles, droppedFiles } from "./file_drop.js";
import { cleaned, hashFault, prefixFault } from "./hash_check.js";
import { allNames, nameOf, remember } from "./names.js";
import { UploadList } from "./upload_list.js";
import { UploadQueue } from "./upload_queue.js";

const PAGE = 25;
const TYPING_MS = 250;

export class FilesView {
  title = "Files";

  constructor(watch) {
    this.watch = watch;
    this.queue = new UploadQueue();
    this.root = element("div", { class: "view files" },
      element("h1", { class: "unseen" }, "Files"), this.#uploading(), this.#downloading(), this.#listing());
    this.queue.addEventListener("end", ({ detail }) => {
      if (detail.state === "stored" || detail.state === "known") remember(detail.hash, detail.name);
      this.load();
    });
    // The first page once there is somebody to ask, and again when the namenode comes back.
    this.wasAvailable = false;
    watch.addEventListener("change", () => {
      const appeared = watch.isAvailable && !this.wasAvailable;
      this.wasAvailable = watch.isAvailable;
      if (appeared || (!watch.isAvailable && this.root.isConnected)) this.load();
    });
  }

  get isSending() {
    return this.queue.running.size > 0;
  }

  show() {
    if (this.watch.isAvailable) this.load();
  }

  hide() {}

  #uploading() {
    const choose = element("input", { id: "choose", type: "file", multiple: true, class: "unseen" });
    const folder = element("input", { id: "choose-folder", type: "file", webkitdirectory: true, class: "unseen", tabindex: -1, "aria-hidden": "true" });
    for (const input of [choose, folder]) {
      input.addEventListener("change", () => {
        this.#take(chosenFiles(input.files));
        input.value = "";
      });
    }
    const drop = element("label", { class: "drop", for: "choose" },
      element("span", {}, element("strong", {}, "Choose files"), " or drop files and folders here"), choose);
    drop.addEventListener("dragover", () => drop.classList.add("over"));
    drop.addEventListener("dragleave", () => drop.classList.remove("over"));
    drop.addEventListener("drop", async (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      this.#take(await droppedFiles(event.dataTransfer));
    });
    this.leftOut = element("p", { class: "hint", role: "status" });
    return element("section", { class: "card", "aria-labelledby": "store-title" },
      element("div", { class: "row" },
        element("h2", { id: "store-title" }, "Store files"),
        button("Choose a folder", () => folder.click(), { class: "quiet" })),
      drop, folder, this.leftOut, new UploadList(this.queue).root);
  }

  #take(files) {
    const left = this.queue.add(files);
    text(this.leftOut, left > 0 ? `${left} files were too many at once and were left out; drop them again later.` : "");
  }

  #downloading() {
    const field = element("input", { id: "hash", type: "text", autocomplete: "off", autocapitalize: "none", spellcheck: "false", maxlength: 200, "aria-describedby": "hash-hint", placeholder: "64 characters, 0-9 and a-f" });
    const hint = element("p", { id: "hash-hint", class: "hint", role: "status" }, "The hash an upload answered with, or what sha256sum prints.");
    const say = (className, words) => {
      hint.className = className;
      text(hint, words);
      field.setAttribute("aria-invalid", className === "bad");
    };
    field.addEventListener("input", () => {
      const hash = cleaned(field.value);
      const fault = hash === "" ? "" : hashFault(hash);
      if (fault) say("bad", fault);
      else say("hint", hash === "" ? "The hash an upload answered with, or what sha256sum prints." : "This is a hash.");
    });
    const form = element("form", { novalidate: true, class: "inline" }, field,
      element("button", { type: "submit" }, "Download"),
      button("Details", () => this.#withHash(field, say, (hash) => location.assign(`#/files/${hash}`)), { class: "secondary" }));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#withHash(field, say, (hash) => this.#download(hash, say));
    });
    return element("section", { class: "card", "aria-labelledby": "get-title" },
      element("h2", { id: "get-title" }, element("label", { for: "hash" }, "Get a file by its hash")), form, hint);
  }

  #withHash(field, say, act) {
    const hash = cleaned(field.value);
    const fault = hashFault(hash);
    if (!fault) {
      act(hash);
      return;
    }
    say("bad", fault);
    field.focus();
  }

  // Asked first, so that a file that is not there is said here and not by an empty page.
  async #download(hash, say) {
    const away = this.watch.away();
    if (away) {
      say("bad", away);
      return;
    }
    say("hint", "Looking for it…");
    try {
      const file = await api.findFile(hash);
      if (!file) {
        say("bad", "404: the store has no file with this hash. It was never stored, or it was deleted; a single wrong character is enough, too.");
        return;
      }
      const name = nameOf(hash);
      element("a", { href: api.downloadPath(hash, name), download: name || hash }).click();
      say("good", `The download of ${bytes(file.size)} has begun${name ? `, as ${name}` : ""}.`);
    } catch (error) {
      say("bad", error.message);
    }
  }

  #listing() {
    this.prefix = element("input", { id: "prefix", type: "search", autocomplete: "off", autocapitalize: "none", spellcheck: "false", maxlength: 64, placeholder: "begins with…", "aria-describedby": "list-state" });
    let typing = 0;
    this.prefix.addEventListener("input", () => {
      clearTimeout(typing);
      typing = setTimeout(() => {
        this.pages = [];
        this.load();
      }, TYPING_MS);
    });
    this.pages = [];
    this.next = null;
    this.back = button("Previous", () => this.#turn(-1), { class: "secondary", disabled: true });
    this.forward = button("Next", () => this.#turn(1), { class: "secondary", disabled: true });
    this.listState = element("p", { id: "list-state", class: "hint", role: "status" }, "Loading…");
    this.rows = element("div", { id: "file-list" });
    return element("section", { class: "card", "aria-labelledby": "list-title" },
      element("div", { class: "row" },
        element("h2", { id: "list-title" }, "What is stored"),
        element("label", { class: "filter", for: "prefix" }, "Hash ", this.prefix),
        button("Refresh", () => this.load(), { class: "quiet" })),
      this.rows,
      element("div", { class: "row" }, this.listState, element("span", { class: "actions" }, this.back, this.forward)));
  }

  #turn(by) {
    if (by > 0) this.pages.push(this.next);
    else this.pages.pop();
    this.load();
  }

  async load() {
    if (!this.root.isConnected) return;
    const prefix = this.prefix.value.trim();
    const fault = prefixFault(prefix);
    if (fault || !this.watch.isAvailable) {
      this.#say(fault ? "bad" : "hint", fault || (this.watch.info || this.watch.failure ? "The list comes back with the namenode." : "Loading…"));
      return;
    }
    const turn = (this.loading = (this.loading ?? 0) + 1);
    try {
      const page = await api.listFiles({ prefix, after: this.pages.at(-1), limit: PAGE });
      // An older answer that comes late must not replace a newer one.
      if (turn === this.loading) this.#fill(page, prefix);
    } catch (error) {
      if (turn === this.loading) this.#say("bad", error.message);
    }
  }

  #fill({ files, next }, prefix) {
    this.next = next;
    this.back.disabled = this.pages.length === 0;
    this.forward.disabled = !next;
    if (files.length === 0) {
      this.rows.replaceChildren(element("p", { class: "empty" },
        prefix ? `No hash begins with ${prefix}.` : "Nothing is stored yet. Drop a file above and it appears here."));
      this.#say("hint", "");
      return;
    }
    const names = allNames();
    const columns = [{ name: "File" }, { name: "Size", number: true }, { name: "Stored" }, { name: "Replicas", number: true }, { name: "" }];
    this.rows.replaceChildren(table("Stored files", columns, files.map((file) => this.#row(file, names.get(file.hash)))));
    const from = this.pages.length * PAGE + 1;
    this.#say("hint", `${from} to ${from + files.length - 1}${next ? ", and there are more" : ""}, in the order of the hashes. Names are those this browser uploaded.`);
  }

  #row(file, name) {
    const short = file.replicas < file.target;
    return [
      element("a", { class: "stored", href: `#/files/${file.hash}`, title: file.hash },
        name ? element("span", { class: "name" }, name) : null, element("code", {}, shortHash(file.hash))),
      bytes(file.size),
      element("span", { title: moment(file.created_ms) }, age(file.created_ms)),
      element("span", { class: short ? "warn" : "" }, `${file.replicas} of ${file.target}`),
      element("a", { href: api.downloadPath(file.hash, name), download: name ?? file.hash, "aria-label": `Download ${name ?? file.hash}` }, "Download"),
    ];
  }

  #say(className, words) {
    this.listState.className = className;
    text(this.listState, words);
  }
}
