// How far repair is, from nothing but the number of files that still wait: the most there were since it began is all of it.

import { bar, element, text } from "./dom.js";
import { count, counted, duration } from "./format.js";

// Between a copy and its report there may be nothing under way for a moment.
const QUIET_MS = 3000;

export class RepairMeter {
  #most = 0;
  #since = 0;
  #quietSince = 0;

  constructor() {
    // Not a live region: it changes each second. The events say when repair starts and ends.
    this.words = element("p", {});
    this.meter = element("div", {});
    this.root = element("div", { class: "repair" }, this.words, this.meter);
  }

  show(info, now) {
    const left = Math.max(info.under_replicated, (info.repairs_copying ?? 0) + (info.repairs_waiting ?? 0));
    if (left > 0 && this.#most === 0) this.#since = now;
    this.#most = Math.max(this.#most, left);
    if (left > 0) this.#quietSince = 0;
    else this.#quietSince ||= now;
    if (this.#quietSince && now - this.#quietSince >= QUIET_MS) this.#most = 0;
    this.root.dataset.state = left > 0 ? "repairing" : "healthy";
    if (left === 0) {
      this.#say(info);
      return;
    }
    const done = this.#most - left;
    const rest = done > 0 ? `, about ${duration((left * (now - this.#since)) / done)} left` : "";
    const copying = info.repairs_copying ? `, ${count(info.repairs_copying)} of them being copied now` : "";
    this.root.className = "repair warn";
    text(this.words, `Repairing: ${counted(left, "file")} to go${copying}${rest}.`);
    this.meter.replaceChildren(bar(done, this.#most, `${done} of ${this.#most} files repaired`, "tall"));
  }

  #say(info) {
    const dead = info.nodes.dead;
    this.root.className = dead > 0 ? "repair" : "repair good";
    this.meter.replaceChildren();
    if (info.files === 0) text(this.words, "Nothing is stored yet.");
    else if (info.status === "safe mode") text(this.words, "Safe mode: nothing is copied or deleted until it ends.");
    else if (dead > 0) text(this.words, `Nothing waits for repair, with ${counted(dead, "datanode")} dead.`);
    else text(this.words, "Healthy: no file waits for a replica.");
  }
}
