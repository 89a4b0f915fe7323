// Why a file is as it is, in words: the namenode's own explanation, or what its status says where there is none.

import * as api from "./api.js";
import { element } from "./dom.js";
import { age, bytes } from "./format.js";

export async function whyView(hash) {
  try {
    return [explanation(await api.why(hash))];
  } catch (error) {
    if (error.status !== 404) return [element("p", { class: "bad" }, error.message)];
  }
  try {
    const found = await api.findFile(hash);
    if (!found) return [element("p", { class: "warn" }, "There is no such file: it was never stored, or it was deleted. Where it was deleted a moment ago, the table of tombstones says who has not confirmed it.")];
    return fromStatus(await api.fileStatus(hash));
  } catch (error) {
    return [element("p", { class: "bad" }, error.message)];
  }
}

function fromStatus(file) {
  const lines = [`Stored ${age(file.created_ms)}, ${bytes(file.size)}, generation ${file.generation}; ${file.target} replicas are wanted, ${file.replicas.length} are on record.`];
  for (const replica of file.replicas) {
    const words = {
      live: "holds it and is live", stale: "holds it and is late with its heartbeats: read last", dead: "held it and is dead: this replica no longer counts and is made anew elsewhere",
      decommissioning: "holds it and is being emptied: a copy elsewhere comes first",
    };
    lines.push(`${replica.name}${replica.rack ? ` in rack ${replica.rack}` : ""} ${words[replica.state] ?? `holds it and is ${replica.state}`}.`);
  }
  return [element("ul", {}, lines.map((line) => element("li", {}, line)))];
}

// Whatever fields there are, as a list of terms.
function explanation(value) {
  if (Array.isArray(value)) return element("ul", {}, value.map((item) => element("li", {}, explanation(item))));
  if (value !== null && typeof value === "object") {
    return element("dl", { class: "facts" }, Object.entries(value).map(([term, inner]) =>
      element("div", {}, element("dt", {}, term.replaceAll("_", " ")), element("dd", {}, explanation(inner)))));
  }
  return element("span", {}, value === null ? "–" : String(value));
}
