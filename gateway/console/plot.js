// A small plot of up to an hour: lines over time, with the last and the largest value in words beside it.

import { element, svg, text } from "./dom.js";
import { duration } from "./format.js";

const WIDTH = 600;
const HEIGHT = 90;
const SHORTEST_MS = 5 * 60 * 1000;

// `lines` are {name, className, values}; a null in values is a gap, drawn as one. All have the same times.
export class Plot {
  constructor(title, format) {
    this.format = format;
    this.drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    this.legend = element("p", { class: "legend" });
    this.scale = element("span", { class: "scale" });
    this.from = element("span", { class: "scale from" });
    this.root = element("figure", { class: "plot" },
      element("figcaption", {}, title), element("div", { class: "canvas" }, this.drawing, this.scale, this.from), this.legend);
  }

  draw(times, lines) {
    const until = times.at(-1) ?? 0;
    // What is not an hour old yet is not squeezed into a corner of one.
    const spanMs = Math.max(SHORTEST_MS, until - (times[0] ?? 0));
    const largest = Math.max(1, ...lines.flatMap((line) => line.values.map((value) => value ?? 0)));
    const x = (time) => WIDTH - ((until - time) / spanMs) * WIDTH;
    const y = (value) => HEIGHT - 2 - (value / largest) * (HEIGHT - 6);
    const grid = [0.25, 0.5, 0.75].map((part) => svg("line", { class: "grid", x1: WIDTH * part, x2: WIDTH * part, y1: 0, y2: HEIGHT }));
    this.drawing.replaceChildren(...grid, ...lines.map((line) => svg("path", { class: `line ${line.className}`, d: path(times, line.values, x, y) })));
    text(this.scale, this.format(largest));
    text(this.from, `${duration(spanMs)} ago`);
    const items = lines.map((line) => {
      const last = line.values.at(-1);
      return element("span", { class: line.className }, `${line.name} ${last === null || last === undefined ? "unknown" : this.format(last)}`);
    });
    this.legend.replaceChildren(...items);
  }
}

function path(times, values, x, y) {
  let drawn = "";
  let isGap = true;
  for (let at = 0; at < values.length; at += 1) {
    if (values[at] === null) {
      isGap = true;
      continue;
    }
    drawn += `${isGap ? "M" : "L"}${x(times[at]).toFixed(1)} ${y(values[at]).toFixed(1)}`;
    isGap = false;
  }
  return drawn;
}
