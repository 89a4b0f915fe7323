// What the cluster says of itself, asked again and again while somebody looks. Views listen; nobody else asks.

import * as api from "./api.js";

const NEAR_MS = 1000;
const FAR_MS = 4000;

export class ClusterWatch extends EventTarget {
  // `info` is the gateway's last answer, null before the first; `nodes` only while `wantsNodes`.
  info = null;
  nodes = [];
  wantsNodes = false;
  // Empty, or why nothing is known.
  failure = "";
  #timer = 0;
  #asking = false;

  get isAvailable() {
    return this.info !== null && this.failure === "" && this.info.status !== "unavailable";
  }

  start() {
    document.addEventListener("visibilitychange", () => this.look());
    this.look();
  }

  // Asks now, and from then on at the pace of the view that is shown. A hidden page asks nothing.
  async look() {
    clearTimeout(this.#timer);
    if (document.hidden || this.#asking) return;
    this.#asking = true;
    try {
      this.info = await api.info();
      this.failure = "";
      if (this.wantsNodes && this.isAvailable) this.nodes = (await api.nodes()).nodes;
    } catch (error) {
      this.failure = error.message;
    } finally {
      this.#asking = false;
    }
    this.dispatchEvent(new Event("change"));
    this.#timer = setTimeout(() => this.look(), this.wantsNodes ? NEAR_MS : FAR_MS);
  }

  // Empty while all is well enough to be asked, else what to show in place of data.
  away() {
    if (this.failure) return `${this.failure} Is it running? The page keeps asking.`;
    if (this.info?.status === "unavailable") {
      return `The gateway is up, but its namenode (${this.info.namenode}) does not answer. Files can be neither listed nor stored until it is back; nothing is lost by it. The page keeps asking.`;
    }
    return "";
  }
}
