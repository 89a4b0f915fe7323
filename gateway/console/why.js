// Why a file is as it is: the namenode's own words.

import * as api from "./api.js";
import { element } from "./dom.js";
import { moment } from "./format.js";

const LISTS = [
  ["replicas", "Its replicas"], ["placement", "Why they are there"], ["planned", "Ordered and not done"],
  ["blocked", "What is in the way"], ["next", "What is tried next"], ["history", "What happened"],
];
const TONES = { healthy: "good", "over-replicated": "info", misplaced: "info", uploading: "info", deleted: "info", unknown: "info", damaged: "bad", missing: "bad" };

export async function whyView(hash) {
  try {
    return explanation(await api.why(hash));
  } catch (error) {
    return [element("p", { class: "bad" }, error.message)];
  }
}

function explanation(why) {
  const lists = LISTS.filter(([field]) => why[field]?.length > 0).map(([field, title]) =>
    element("div", {}, element("dt", {}, title), element("dd", {}, element("ul", {}, why[field].map((line) => element("li", {}, line))))));
  const deleted = why.deleted_ms ? [element("div", {}, element("dt", {}, why.file ? "Deleted before" : "Deleted"), element("dd", {}, moment(why.deleted_ms)))] : [];
  return [
    element("p", {}, element("span", { class: `badge ${TONES[why.state] ?? "warn"}` }, why.state), " ", why.summary,
      why.file ? [" ", element("a", { href: `#/files/${why.hash}` }, "Details")] : null),
    element("dl", { class: "facts" }, deleted, lists),
  ];
}
