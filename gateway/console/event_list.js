// What happens in the cluster, as it happens. The stream is open only while it is looked at: a browser has six connections
// to one host, over all its tabs.

import { element, text } from "./dom.js";
import { clock, counted, shortHash } from "./format.js";

const MAX_ROWS = 200;

export class EventList {
  #source = null;
  // The last event that is shown: where a new stream goes on.
  #last = "";

  constructor() {
    this.state = element("p", { class: "hint", role: "status" }, "Connecting…");
    this.rows = element("ol", { class: "events" });
    this.root = element("div", {}, this.state,
      element("div", { class: "log", role: "log", "aria-label": "Events, newest first", tabindex: 0 }, this.rows));
    document.addEventListener("visibilitychange", () => {
      if (!this.wanted) return;
      if (document.hidden) this.#disconnect();
      else this.#connect();
    });
  }

  open() {
    this.wanted = true;
    if (!document.hidden) this.#connect();
  }

  close() {
    this.wanted = false;
    this.#disconnect();
  }

  #connect() {
    if (this.#source) return;
    const source = new EventSource(`/events${this.#last ? `?after=${this.#last}` : ""}`);
    this.#source = source;
    source.addEventListener("open", () => this.#say("Connected; what happens appears here at once."));
    source.addEventListener("error", () => {
      if (source.readyState === EventSource.CLOSED) {
        // Too many listeners, for example: tried again, but not by the browser itself.
        this.#disconnect();
        setTimeout(() => this.wanted && !document.hidden && this.#connect(), 5000);
      }
      this.#say("The stream broke off; it goes on where it stopped when the gateway is back.");
    });
    source.addEventListener("cluster", (message) => this.#take(message));
    source.addEventListener("gap", () => this.#add("note", Date.now(), "Some events were missed here: older ones are no longer kept."));
    source.addEventListener("away", () => this.#say("The namenode does not answer; events go on when it is back."));
    source.addEventListener("back", () => this.#say("Connected; what happens appears here at once."));
  }

  #disconnect() {
    this.#source?.close();
    this.#source = null;
  }

  #take(message) {
    this.#last = message.lastEventId;
    const event = JSON.parse(message.data);
    const { tone, words } = describe(event);
    this.#add(tone, event.at_ms, words, event.hash);
  }

  #add(tone, atMs, words, hash) {
    const row = element("li", { class: tone },
      element("time", { datetime: new Date(atMs).toISOString() }, clock(atMs)), " ", words,
      hash ? [" ", element("a", { href: `#/files/${hash}`, title: hash }, element("code", {}, shortHash(hash)))] : null);
    this.rows.prepend(row);
    while (this.rows.children.length > MAX_ROWS) this.rows.lastChild.remove();
  }

  #say(words) {
    text(this.state, words);
  }
}

function describe(event) {
  const node = event.node?.name ?? "a datanode";
  const more = event.count > 1 ? counted(event.count, "file") : "a file";
  const known = {
    namenode_started: () => ["note", `The namenode started (start ${event.count})`],
    node_joined: () => ["good", `${node} joined`],
    node_live: () => ["good", `${node} is live again`],
    node_stale: () => ["warn", `${node} is stale: no heartbeat for a while`],
    node_dead: () => ["bad", `${node} is dead: its replicas no longer count`],
    node_emptying: () => ["note", `${node} is being emptied`],
    node_in_service: () => ["note", `${node} is back in service`],
    safe_mode_over: () => ["good", "Safe mode is over"],
    safe_mode_on: () => ["warn", "Safe mode is on"],
    repair_started: () => ["warn", `Repair started: ${counted(event.count, "file")} to look after`],
    repair_finished: () => ["good", `Repair finished: ${counted(event.count, "copy", "copies")} made`],
    repair_failed: () => ["bad", `A repair by ${node} failed and is planned anew`],
    replica_corrupt: () => ["bad", `${node} was reported to hold a bad replica`],
    replica_quarantined: () => ["warn", `${node} put a bad replica aside`],
    file_deleted: () => ["note", event.count > 1 ? `${more} were deleted` : "Deleted"],
  };
  const [tone, words] = known[event.kind]?.() ?? ["note", event.kind.replaceAll("_", " ")];
  return { tone, words };
}
