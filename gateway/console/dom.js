// Elements from values. Text goes into the page as text nodes only, never as markup: what a name or a hash says is shown,
// whatever it contains.

const SVG = "http://www.w3.org/2000/svg";

function fill(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export function element(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

export function text(node, words) {
  // Written only when it changes: a screen reader reads each write to a live region.
  if (node.textContent !== words) node.textContent = words;
}

export function button(words, onclick, attributes = {}) {
  return element("button", { type: "button", onclick, ...attributes }, words);
}

// A meter from 0 to `max`, said in words for those who do not see it.
export function bar(value, max, label, className = "") {
  const share = max > 0 ? Math.min(1, value / max) : 0;
  const box = { class: `bar ${className}`, viewBox: "0 0 100 4", preserveAspectRatio: "none", role: "img", "aria-label": label };
  return svg("svg", box,
    svg("rect", { class: "rest", width: 100, height: 4 }),
    svg("rect", { class: "share", width: share * 100, height: 4 }));
}

// A button that copies `words` and says whether it did.
export function copyButton(label, words) {
  const made = button(label, async () => {
    let said = "Copied";
    try {
      await navigator.clipboard.writeText(words);
    } catch {
      // Not allowed, or the page came over plain HTTP from another machine: the text is there to be selected.
      said = "Select and copy it by hand";
    }
    text(made, said);
    setTimeout(() => text(made, label), 2000);
  }, { class: "quiet" });
  return made;
}

// A table that scrolls sideways where the screen is narrow. `columns` are {name, number?}; `rows` arrays of cells.
export function table(caption, columns, rows) {
  const head = columns.map((column) => element("th", { scope: "col", class: column.number ? "number" : undefined }, column.name));
  const made = element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    element("table", {},
      element("caption", { class: "unseen" }, caption),
      element("thead", {}, element("tr", {}, head)),
      element("tbody", {})));
  refill(made, columns, rows);
  return made;
}

// Other rows in the same table: who stands in it with the keyboard or has scrolled it stays there.
export function refill(made, columns, rows) {
  made.querySelector("tbody").replaceChildren(...rows.map((cells) => element("tr", {}, cells.map((cell, at) =>
    element("td", { class: columns[at].number ? "number" : undefined, "data-label": columns[at].name }, cell)))));
}
