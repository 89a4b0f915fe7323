// The state of a datanode as a word with a colour. The word alone says it all.

import { element } from "./dom.js";

const TONES = { live: "good", stale: "warn", dead: "bad", decommissioning: "info", decommissioned: "info", maintenance: "info" };

export function badge(state) {
  return element("span", { class: `badge ${TONES[state] ?? "info"}` }, state.replaceAll("_", " "));
}
