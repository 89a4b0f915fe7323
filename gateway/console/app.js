// The plain page: upload with progress, download by hash. Text goes into the page as text only, never as markup.

const HASH_LENGTH = 64;
const CLUSTER_EVERY_MS = 5000;
// A browser opens six connections to one host; two are left for everything else.
const UPLOADS_AT_ONCE = 4;

const byId = (id) => document.getElementById(id);

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

function seconds(count) {
  if (!Number.isFinite(count)) return "";
  const whole = Math.ceil(count);
  return whole < 60 ? `${whole} s left` : `${Math.ceil(whole / 60)} min left`;
}

// The words of an error: the gateway's own where it sent some.
function words(request) {
  try {
    return JSON.parse(request.responseText).error;
  } catch {
    return request.status ? `The gateway answered ${request.status}.` : "The connection broke off.";
  }
}

const waiting = [];
let running = 0;

function next() {
  while (running < UPLOADS_AT_ONCE && waiting.length > 0) {
    running += 1;
    waiting.shift()(() => {
      running -= 1;
      next();
    });
  }
}

function upload(file) {
  const progress = element("progress", { max: 1, value: 0 });
  progress.setAttribute("aria-label", `Upload of ${file.name}`);
  const state = element("span", { className: "hint", textContent: "waiting" });
  const cancel = element("button", { type: "button", className: "plain", textContent: "Cancel" });
  const row = element("div", { className: "row" }, state, cancel);
  const item = element("li", {}, element("strong", { textContent: file.name }), progress, row);
  byId("uploads").prepend(item);

  const request = new XMLHttpRequest();
  let cancelled = false;
  cancel.addEventListener("click", () => {
    cancelled = true;
    request.abort();
    finish("bad", "cancelled, nothing was stored");
  });

  function finish(className, text) {
    progress.remove();
    cancel.remove();
    state.className = className;
    state.textContent = text;
  }

  waiting.push((done) => {
    if (cancelled) {
      done();
      return;
    }
    const start = performance.now();
    request.upload.addEventListener("progress", (event) => {
      const elapsed = (performance.now() - start) / 1000;
      const rate = event.loaded / Math.max(elapsed, 0.001);
      progress.max = event.total;
      progress.value = event.loaded;
      state.textContent = event.loaded < event.total
        ? `${bytes(event.loaded)} of ${bytes(event.total)}, ${bytes(rate)}/s, ${seconds((event.total - event.loaded) / rate)}`
        : "sent; waiting until it is on disk";
    });
    request.addEventListener("load", () => {
      if (request.status === 200) stored(JSON.parse(request.responseText));
      else finish("bad", words(request));
    });
    request.addEventListener("error", () => finish("bad", "The connection broke off. Nothing was stored; try again."));
    request.addEventListener("loadend", () => {
      done();
      showCluster();
    });
    const form = new FormData();
    form.append("file", file);
    request.open("POST", "/upload");
    request.send(form);
  });
  next();

  function stored(answer) {
    finish("good", `${answer.created ? "stored" : "was there already"}: ${bytes(answer.size)}, ${answer.replicas} replicas`);
    const link = element("a", { textContent: "Download" });
    link.href = `/download?${new URLSearchParams({ hash: answer.hash, name: file.name })}`;
    const copy = element("button", { type: "button", className: "plain", textContent: "Copy hash" });
    copy.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(answer.hash);
        copy.textContent = "Copied";
      } catch {
        copy.textContent = "Select it above";
      }
    });
    item.append(element("code", { textContent: answer.hash }), element("div", { className: "row" }, link, copy));
  }
}

// What is wrong with a typed hash, in words; empty when nothing is.
function fault(text) {
  if (text === "") return "Enter the hash of the file.";
  const odd = [...text].findIndex((character) => !/[0-9a-f]/.test(character));
  if (odd >= 0) {
    const character = [...text][odd];
    if (/[A-F]/.test(character)) return "Hashes are written in lower case here.";
    return `Character ${odd + 1} (${JSON.stringify(character)}) is none of 0-9 and a-f.`;
  }
  if (text.length !== HASH_LENGTH) return `A hash has ${HASH_LENGTH} characters, this has ${text.length}.`;
  return "";
}

function hint(className, text) {
  byId("hash-hint").className = className;
  byId("hash-hint").textContent = text;
}

byId("hash").addEventListener("input", () => {
  const text = byId("hash").value.trim();
  const wrong = text === "" ? "" : fault(text);
  byId("hash").setAttribute("aria-invalid", wrong === "" ? "false" : "true");
  if (wrong) hint("bad", wrong);
  else hint("hint", text === "" ? "The hash an upload answered with, or what sha256sum prints." : "This is a hash.");
});

byId("download").addEventListener("submit", async (event) => {
  event.preventDefault();
  const hash = byId("hash").value.trim();
  const wrong = fault(hash);
  if (wrong) {
    hint("bad", wrong);
    byId("hash").focus();
    return;
  }
  byId("get").disabled = true;
  try {
    // Asked first, so that a file that is not there is said here and not by an empty page.
    const response = await fetch(`/files/${hash}/status`);
    const answer = await response.json();
    if (!response.ok) {
      hint("bad", response.status === 404 ? "The store has no file with this hash." : answer.error);
      return;
    }
    hint("good", `${bytes(answer.size)}, ${answer.replicas.length} of ${answer.target} replicas. The download has begun.`);
    const query = new URLSearchParams({ hash });
    const name = byId("name").value.trim();
    if (name) query.set("name", name);
    location.assign(`/download?${query}`);
  } catch {
    hint("bad", "The gateway does not answer.");
  } finally {
    byId("get").disabled = false;
  }
});

const drop = byId("drop");
function take(files) {
  for (const file of files) upload(file);
}
byId("files").addEventListener("change", (event) => {
  take(event.target.files);
  event.target.value = "";
});
for (const kind of ["dragenter", "dragover"]) {
  drop.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
for (const kind of ["dragleave", "drop"]) {
  drop.addEventListener(kind, () => drop.classList.remove("over"));
}
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  take(event.dataTransfer.files);
});

async function showCluster() {
  const line = byId("cluster");
  try {
    const info = await (await fetch("/info")).json();
    const figures = info.nodes
      ? `: ${info.files} files, ${bytes(info.bytes)}, ${info.nodes.live} of ${info.nodes.total} datanodes live`
      : "";
    line.className = info.status === "running" ? "" : "bad";
    line.textContent = `${info.status}${figures}${info.reason ? ` (${info.reason})` : ""}`;
  } catch {
    line.className = "bad";
    line.textContent = "the gateway does not answer";
  }
}
showCluster();
setInterval(showCluster, CLUSTER_EVERY_MS);
