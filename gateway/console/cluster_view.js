// The cluster: how it is, which datanodes there are, what repair does, what happened.

import * as api from "./api.js";
import { badge } from "./badge.js";
import { bar, element, refill, table, text } from "./dom.js";
import { EventList } from "./event_list.js";
import { ago, bytes, count, duration, moment, rate } from "./format.js";
import { Plot } from "./plot.js";
import { RepairMeter } from "./repair_meter.js";

const HISTORY_MS = 5000;

export class ClusterView {
  title = "Cluster";

  constructor(watch) {
    this.watch = watch;
    this.table = null;
    this.reason = element("p", {});
    this.tiles = element("dl", { class: "tiles" });
    this.repair = new RepairMeter();
    this.nodes = element("div", { id: "nodes" }, element("p", { class: "empty" }, "Loading…"));
    this.throughput = new Plot("Throughput of this gateway", rate);
    this.backlog = new Plot("Backlog of the cluster", (value) => count(Math.round(value)));
    this.events = new EventList();
    this.root = element("div", { class: "view cluster" },
      element("h1", { class: "unseen" }, "Cluster"),
      section("health", "Health", this.reason, this.repair.root, this.tiles),
      section("nodes", "Datanodes", this.nodes),
      element("div", { class: "pair" }, section("plots", "The last hour", this.throughput.root, this.backlog.root), section("events", "What happens", this.events.root)));
    watch.addEventListener("change", () => {
      if (this.root.isConnected) this.#fill();
    });
  }

  show() {
    this.events.open();
    this.#fill();
    clearInterval(this.timer);
    this.timer = setInterval(() => this.#plot(), HISTORY_MS);
    this.#plot();
  }

  hide() {
    this.events.close();
    clearInterval(this.timer);
  }

  #fill() {
    const { info, nodes } = this.watch;
    this.root.classList.toggle("old", !this.watch.isAvailable);
    if (!this.watch.isAvailable) {
      if (info || this.watch.failure) text(this.reason, "What follows is what was known last.");
      return;
    }
    this.reason.className = info.status === "running" ? "good" : "warn";
    text(this.reason, info.status === "running" ? "Everything is as it should be." : `${info.status}: ${info.reason}`);
    this.repair.show(info, performance.now());
    this.tiles.replaceChildren(...tiles(info));
    this.#list(nodes);
  }

  #list(nodes) {
    if (nodes.length === 0) {
      this.table = null;
      this.nodes.replaceChildren(element("p", { class: "empty" }, "No datanode has registered. Start one with: richardstore datanode --namenode HOST:PORT"));
    } else if (this.table) {
      refill(this.table, COLUMNS, nodes.map(nodeRow));
    } else {
      this.table = table("Datanodes", COLUMNS, nodes.map(nodeRow));
      this.nodes.replaceChildren(this.table);
    }
  }

  async #plot() {
    if (document.hidden || this.watch.failure) return;
    try {
      const history = await api.history();
      this.throughput.draw(history.at_ms, [
        { name: "in", className: "first", values: history.received_bytes_per_second },
        { name: "out", className: "second", values: history.sent_bytes_per_second },
      ]);
      this.backlog.draw(history.at_ms, [
        { name: "files to repair", className: "first", values: history.files_to_repair },
        { name: "commands", className: "second", values: history.commands_pending },
      ]);
    } catch {
      // The plots stay as they are; that the gateway is away is said above.
    }
  }
}

function section(id, title, ...children) {
  return element("section", { class: "card", "aria-labelledby": `${id}-title` }, element("h2", { id: `${id}-title` }, title), children);
}

function tiles(info) {
  const used = info.capacity_bytes - info.available_bytes;
  const { live, stale, dead, total } = info.nodes;
  const facts = [
    ["Datanodes live", `${live} of ${total}`, [stale && `${stale} stale`, dead && `${dead} dead`].filter(Boolean).join(", "), live < total ? "warn" : ""],
    ["Files", count(info.files), `${bytes(info.bytes)}, each counted once`],
    ["Space", `${bytes(info.available_bytes)} free`, `of ${bytes(info.capacity_bytes)}`, "", bar(used, info.capacity_bytes, `${bytes(used)} of ${bytes(info.capacity_bytes)} taken`)],
    ["Under-replicated", count(info.under_replicated), info.under_replicated ? "files with too few replicas on record" : "no file on record", info.under_replicated ? "warn" : ""],
    ["Commands pending", count(info.commands_pending), "copies and deletes that datanodes have to confirm"],
    ["Tombstones", count(info.tombstones), "deletes that some datanode has not confirmed"],
    ["Uploads under way", count(info.writes_in_flight), "through all gateways"],
    ["Namenode", `start ${info.epoch}`, `up for ${duration(info.uptime_ms)}, ${info.namenode}`],
  ];
  return facts.map(([term, value, note, tone, meter]) => element("div", {},
    element("dt", {}, term), element("dd", { class: `figure ${tone ?? ""}` }, value), meter ? element("dd", {}, meter) : null, element("dd", { class: "hint" }, note)));
}

const COLUMNS = [
  { name: "Datanode" }, { name: "State" }, { name: "Rack" }, { name: "Space" }, { name: "Replicas", number: true },
  { name: "Heartbeat" }, { name: "Full report" }, { name: "Commands", number: true },
];

function nodeNote(node) {
  if (node.volume_failed) return " its volume failed";
  if (node.maintenance_until_ms) return ` until ${moment(node.maintenance_until_ms)}`;
  return node.read_only ? " takes no writes" : "";
}

function nodeRow(node) {
  const taken = node.capacity_bytes - node.available_bytes;
  return [
    element("span", { title: `${node.node_id}, start ${node.session_epoch}` }, element("strong", {}, node.name), " ", element("code", {}, node.address)),
    element("span", {}, badge(node.state), nodeNote(node)),
    node.rack || "–",
    element("span", { class: "space" }, bar(taken, node.capacity_bytes, `${bytes(taken)} of ${bytes(node.capacity_bytes)} taken`), `${bytes(node.used_bytes)} held, ${bytes(node.available_bytes)} free`),
    count(node.replicas),
    ago(node.last_heartbeat_age_ms),
    node.last_report_age_ms === null ? "not yet" : ago(node.last_report_age_ms),
    count(node.commands_pending),
  ];
}
