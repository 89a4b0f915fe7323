// One file: where its replicas are, how to get it, and how to be rid of it.

import * as api from "./api.js";
import { button, copyButton, element, table, text } from "./dom.js";
import { age, bytes, counted, moment } from "./format.js";
import { hashFault } from "./hash_check.js";
import { forget, nameOf } from "./names.js";
import { badge } from "./badge.js";

export class FileView {
  title = "File";

  constructor(watch) {
    this.watch = watch;
    this.body = element("div", { class: "view" });
    this.said = element("p", { class: "hint", role: "status" });
    this.root = element("div", { class: "view file" },
      element("p", {}, element("a", { href: "#/files" }, "← All files")), this.said, this.body);
    this.waits = false;
    watch.addEventListener("change", () => {
      if (this.waits && this.root.isConnected && watch.isAvailable) this.load();
    });
  }

  show(hash) {
    this.hash = hash;
    this.body.replaceChildren(element("h1", { class: "unseen" }, "File"));
    this.load();
  }

  hide() {
    this.hash = "";
  }

  async load() {
    const { hash } = this;
    const fault = hashFault(hash);
    this.waits = !fault && !this.watch.isAvailable;
    if (fault || this.waits) {
      this.#say(fault ? "bad" : "hint", fault ? `This address has no hash in it. ${fault}` : this.watch.away() || "Loading…");
      return;
    }
    try {
      const found = await api.findFile(hash);
      const status = found && (await api.fileStatus(hash));
      if (hash !== this.hash) return;
      if (status) this.#fill(status);
      else this.#say("bad", `404: the store has no file ${hash}. It was never stored here, or it was deleted.`);
    } catch (error) {
      if (hash === this.hash) this.#say("bad", error.message);
    }
  }

  #fill(file) {
    this.#say("hint", "");
    const name = nameOf(file.hash);
    const good = file.replicas.filter((replica) => replica.state !== "dead").length;
    const health = good >= file.target
      ? `All ${counted(file.target, "replica")} are there.`
      : `${good} of ${counted(file.target, "replica")} can be read now; the others are being made anew where there is a datanode for them.`;
    const url = `${location.origin}/files/${file.hash}`;
    const curl = `curl -f ${url} -o ${name ? shellWord(name) : file.hash.slice(0, 12)}`;
    const facts = [
      ["SHA-256", element("code", { class: "hash" }, file.hash)], ["Size", `${bytes(file.size)} (${file.size.toLocaleString("en")} bytes)`],
      ["Stored", `${age(file.created_ms)}, ${moment(file.created_ms)}`], ["BLAKE3", element("code", { class: "hash" }, file.blake3)],
      ["Generation", String(file.generation)], ["With curl", element("code", {}, curl)],
    ];
    const columns = [{ name: "Datanode" }, { name: "Rack" }, { name: "State" }, { name: "Address" }, { name: "Generation", number: true }];
    const rows = file.replicas.map((replica) => [replica.name, replica.rack || "–", badge(replica.state), element("code", {}, replica.address), String(replica.generation)]);
    this.body.replaceChildren(
      element("section", { class: "card", "aria-labelledby": "file-title" },
        element("h1", { id: "file-title", class: "name" }, name || "File"),
        element("dl", { class: "facts" }, facts.map(([term, value]) => element("div", {}, element("dt", {}, term), element("dd", {}, value)))),
        element("p", { class: "actions" },
          element("a", { class: "button", href: api.downloadPath(file.hash, name), download: name || file.hash }, "Download"),
          copyButton("Copy hash", file.hash), copyButton("Copy as curl", curl),
          element("a", { href: `#/admin/why/${file.hash}` }, "Why is it so?"),
          button("Delete…", () => this.#confirm(file, name), { class: "danger" }))),
      element("section", { class: "card", "aria-labelledby": "replicas-title" },
        element("h2", { id: "replicas-title" }, "Replicas"),
        element("p", { class: good >= file.target ? "good" : "warn" }, health),
        rows.length ? table("Replicas", columns, rows) : element("p", { class: "empty" }, "No datanode that the namenode knows holds it.")));
  }

  #confirm(file, name) {
    const said = element("p", { class: "bad", role: "alert" });
    const keep = button("Keep it", () => dialog.close(), { class: "secondary", autofocus: true });
    const remove = button("Delete it for good", async () => {
      remove.disabled = true;
      try {
        await api.deleteFile(file.hash);
        forget(file.hash);
        dialog.close();
        this.body.replaceChildren(element("h1", { class: "unseen" }, "File"));
        this.#say("good", `Deleted: ${name || file.hash}. It can no longer be read; the datanodes remove their bytes as they come by.`);
      } catch (error) {
        text(said, error.status === 404 ? "Somebody else has deleted it already." : error.message);
        remove.disabled = false;
      }
    }, { class: "danger" });
    const dialog = element("dialog", { "aria-labelledby": "delete-title" },
      element("h2", { id: "delete-title" }, "Delete this file?"),
      element("p", {}, element("strong", {}, name || "The file"), ` (${bytes(file.size)}) with the hash`),
      element("code", { class: "hash" }, file.hash),
      element("p", {}, "It is gone at once for everybody who has this hash, all replicas are removed, and nothing brings it back, also no datanode that was away. Only storing the same bytes again does."),
      said, element("p", { class: "actions" }, keep, remove));
    dialog.addEventListener("close", () => dialog.remove());
    this.root.append(dialog);
    dialog.showModal();
  }

  #say(className, words) {
    this.said.className = className;
    text(this.said, words);
  }
}

// A name as one word of a POSIX shell.
function shellWord(name) {
  return /^[\w.,+-]+$/.test(name) && !name.startsWith("-") ? name : `'${name.replace(/'/g, "'\\''").replace(/^-/, "./-")}'`;
}
