// The namenode's own records, and why a file is as it is.

import * as api from "./api.js";
import { element, table, text } from "./dom.js";
import { counted, moment, shortHash } from "./format.js";
import { cleaned, hashFault } from "./hash_check.js";
import { whyView } from "./why.js";

const TABLES = {
  files: "files and their replicas", replicas: "what each datanode holds", nodes: "datanodes", tombstones: "deletes that are not confirmed everywhere",
  commands: "what datanodes are to do", writes: "uploads under way", meta: "schema, cluster and counters",
};
const ROWS = 100;
// A filter that finds little must not read a table of millions to its end.
const MAX_LOOKED_AT = 200000;
const TYPING_MS = 300;

export class AdminView {
  title = "Admin";

  constructor(watch) {
    this.watch = watch;
    this.table = "";
    this.root = element("div", { class: "view admin" }, element("h1", { class: "unseen" }, "Admin"), this.#why(), this.#records());
    watch.addEventListener("change", () => {
      if (this.waits && this.root.isConnected && watch.isAvailable) this.load();
    });
  }

  // `detail` is a table; `#/admin/why/HASH` is followed by location alone.
  show(detail) {
    if (detail === "why") {
      this.hash.value = location.hash.split("/")[3] ?? "";
      this.#ask();
      detail = this.table;
    }
    const name = detail in TABLES ? detail : "files";
    if (name !== this.table) {
      this.table = name;
      for (const link of this.links.querySelectorAll("a")) {
        if (link.getAttribute("href") === `#/admin/${name}`) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      }
      this.download.setAttribute("href", `/admin/dump/${name}`);
      this.download.setAttribute("download", `${name}.ndjson`);
      this.filter.value = "";
      this.rows.replaceChildren();
    }
    this.load();
  }

  hide() {
    this.stop?.abort();
  }

  #why() {
    this.hash = element("input", { id: "why-hash", type: "text", autocomplete: "off", autocapitalize: "none", spellcheck: "false", maxlength: 200, placeholder: "64 characters, 0-9 and a-f" });
    this.answer = element("div", { role: "status" });
    const form = element("form", { novalidate: true, class: "inline" }, this.hash, element("button", { type: "submit" }, "Ask"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#ask();
    });
    return element("section", { class: "card", "aria-labelledby": "why-title" },
      element("h2", { id: "why-title" }, element("label", { for: "why-hash" }, "Why is a file as it is?")), form, this.answer);
  }

  async #ask() {
    const hash = cleaned(this.hash.value);
    const fault = hashFault(hash) || this.watch.away();
    if (fault) {
      this.answer.replaceChildren(element("p", { class: "bad" }, fault));
      return;
    }
    this.answer.replaceChildren(element("p", { class: "hint" }, "Looking…"));
    this.answer.replaceChildren(...(await whyView(hash)));
  }

  #records() {
    this.links = element("nav", { class: "tabs", "aria-label": "Tables" }, Object.keys(TABLES).map((name) => element("a", { href: `#/admin/${name}` }, name)));
    this.filter = element("input", { id: "filter", type: "search", autocomplete: "off", spellcheck: "false", maxlength: 100, placeholder: "any text of a record" });
    this.filter.addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.load(), TYPING_MS);
    });
    this.download = element("a", {}, "Download as NDJSON");
    this.state = element("p", { class: "hint", role: "status" }, "Loading…");
    this.rows = element("div", { id: "records" });
    return element("section", { class: "card", "aria-labelledby": "records-title" },
      element("h2", { id: "records-title" }, "Metadata"), this.links,
      element("div", { class: "row" }, element("label", { class: "filter", for: "filter" }, "Filter ", this.filter), this.download),
      this.state, this.rows);
  }

  async load() {
    this.stop?.abort();
    this.waits = !this.watch.isAvailable;
    if (this.waits) {
      this.#say("hint", this.watch.away() || "Loading…");
      return;
    }
    const stop = (this.stop = new AbortController());
    try {
      const found = await read(this.table, this.filter.value.trim().toLowerCase(), stop.signal);
      if (!stop.signal.aborted) this.#fill(found);
    } catch (error) {
      if (!stop.signal.aborted) this.#say("bad", error.message);
    }
  }

  #fill({ records, looked, whole }) {
    const filter = this.filter.value.trim();
    if (records.length === 0) {
      this.rows.replaceChildren(element("p", { class: "empty" }, filter ? `No record of ${this.table} contains “${filter}”${whole ? "" : ` among the first ${looked}`}.` : "This table is empty."));
      this.#say("hint", "");
      return;
    }
    const names = [...new Set(records.flatMap((record) => Object.keys(record)))];
    const columns = names.map((name) => ({ name, number: records.every((record) => typeof record[name] === "number") && !name.endsWith("_ms") }));
    this.rows.replaceChildren(table(TABLES[this.table], columns, records.map((record) => names.map((name) => cell(name, record[name])))));
    this.#say("hint", whole ? `${counted(records.length, "record")}: ${TABLES[this.table]}.` : `The first ${counted(records.length, "record")}: ${TABLES[this.table]}. The download has all of them.`);
  }

  #say(className, words) {
    this.state.className = className;
    text(this.state, words);
  }
}

// The first records that contain `filter`, from a stream that is cut when they are found.
async function read(name, filter, signal) {
  const records = [];
  let looked = 0;
  for await (const record of api.dumpLines(name, signal)) {
    if (records.length === ROWS || looked === MAX_LOOKED_AT) return { records, looked, whole: false };
    looked += 1;
    if (!filter || JSON.stringify(record).toLowerCase().includes(filter)) records.push(record);
  }
  return { records, looked, whole: true };
}

function cell(name, value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "string" && !hashFault(value)) {
    return name === "hash" ? element("a", { href: `#/files/${value}`, title: value }, element("code", {}, shortHash(value))) : element("code", { title: value }, shortHash(value));
  }
  if (typeof value === "number") return name.endsWith("_ms") && value > 1e12 ? moment(value) : String(value);
  if (Array.isArray(value)) return element("span", {}, value.length === 0 ? "none" : value.map((item) => element("code", { class: "item", title: JSON.stringify(item) }, brief(item))));
  return typeof value === "object" ? element("code", {}, JSON.stringify(value)) : String(value);
}

// The fields of a part of a record, ids and hashes by their first digits; all of it is in its title.
function brief(item) {
  const words = typeof item === "object" && item !== null ? Object.values(item) : [item];
  return words.map((word) => (typeof word === "string" && word.length >= 32 ? `${word.slice(0, 8)}…` : String(word))).join(" ");
}
