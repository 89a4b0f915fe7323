// The frame around the views: which one is shown, the state of the cluster in one word, the theme.

import { text } from "./dom.js";
import { ClusterWatch } from "./cluster_watch.js";
import { FilesView } from "./files_view.js";
import { FileView } from "./file_view.js";
import { ClusterView } from "./cluster_view.js";
import { AdminView } from "./admin_view.js";

const main = document.getElementById("main");
const watch = new ClusterWatch();
const views = { files: new FilesView(watch), file: new FileView(watch), cluster: new ClusterView(watch), admin: new AdminView(watch) };
let shown = null;

// `#/files`, `#/files/HASH`, `#/cluster`, `#/admin`, `#/admin/TABLE`.
function route() {
  const [name, detail] = location.hash.replace(/^#\/?/, "").split("/");
  if (name === "files" && detail) return { view: "file", tab: "files", detail };
  return name in views && name !== "file" ? { view: name, tab: name, detail } : { view: "files", tab: "files" };
}

function show(focus) {
  const { view, tab, detail } = route();
  const next = views[view];
  if (shown !== next) {
    shown?.hide();
    main.replaceChildren(next.root);
    watch.wantsNodes = view === "cluster";
    shown = next;
  }
  document.title = `${next.title} · richardstore`;
  for (const link of document.querySelectorAll("header nav a")) {
    if (link.getAttribute("href") === `#/${tab}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  next.show(detail);
  watch.look();
  if (focus) main.focus({ preventScroll: true });
}

const WORDS = { running: "good", degraded: "warn", "safe mode": "warn", unavailable: "bad" };

function showStatus() {
  const { info } = watch;
  const word = watch.failure ? "gateway away" : info.status;
  const status = document.getElementById("status");
  status.className = `pill ${WORDS[word] ?? "bad"}`;
  status.title = watch.failure || info.reason;
  text(document.getElementById("status-word"), word);
  const away = watch.away();
  const notice = document.getElementById("away");
  notice.hidden = away === "";
  text(notice, away);
  if (info) text(document.getElementById("about"), `richardstore ${info.version}${info.cluster_id ? `, cluster ${info.cluster_id}` : ""}`);
}

const THEMES = ["auto", "light", "dark"];

function themeButton() {
  const made = document.getElementById("theme");
  const word = document.getElementById("theme-word");
  let theme = document.documentElement.dataset.theme ?? "auto";
  const say = () => {
    text(word, theme);
    made.setAttribute("aria-label", `Theme: ${theme}`);
  };
  made.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    try {
      localStorage.setItem("richardstore.theme", theme);
    } catch {
      // Storage is off: it lasts until the page is loaded again.
    }
    say();
  });
  say();
}

// A file that is dropped beside the drop zone must not replace the page.
for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());
// What is being sent is lost when the page goes.
addEventListener("beforeunload", (event) => {
  if (views.files.isSending) event.preventDefault();
});
addEventListener("hashchange", () => show(true));
watch.addEventListener("change", showStatus);
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
themeButton();
show(false);
watch.start();
