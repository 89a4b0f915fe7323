//! [`Assets`]: the files of the web console, from inside the binary.
//!
//! They lie under a path that names their content, so that a browser may keep them for good and a new page never meets an
//! old script. The page itself is asked for again each time.

use std::fmt::Write;
use std::sync::LazyLock;

use sha2::{Digest, Sha256};

/// Hex digits of the content's hash in the path.
const VERSION_DIGITS: usize = 16;

/// One file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asset {
    /// The last part of its path.
    pub(crate) name: &'static str,
    /// What it is.
    pub(crate) content_type: &'static str,
    /// Its bytes, which are text.
    pub(crate) text: &'static str,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Assets {
    /// Changes with every change of any of them.
    pub(crate) version: String,
    /// The page, with the paths of this version in it.
    pub(crate) page: String,
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! asset {
    ($name:literal, $content_type:expr) => {
        Asset {
            name: $name,
            content_type: $content_type,
            text: include_str!(concat!("../console/", $name)),
        }
    };
}

const PAGE: &str = include_str!("../console/index.html");
const FILES: &[Asset] = &[
    asset!("admin_view.js", SCRIPT),
    asset!("api.js", SCRIPT),
    asset!("app.js", SCRIPT),
    asset!("badge.js", SCRIPT),
    asset!("cluster_view.js", SCRIPT),
    asset!("cluster_watch.js", SCRIPT),
    asset!("dom.js", SCRIPT),
    asset!("event_list.js", SCRIPT),
    asset!("file_drop.js", SCRIPT),
    asset!("file_view.js", SCRIPT),
    asset!("files_view.js", SCRIPT),
    asset!("format.js", SCRIPT),
    asset!("hash_check.js", SCRIPT),
    asset!("hash_worker.js", SCRIPT),
    asset!("icon.svg", "image/svg+xml"),
    asset!("names.js", SCRIPT),
    asset!("plot.js", SCRIPT),
    asset!("repair_meter.js", SCRIPT),
    asset!("sha256.js", SCRIPT),
    asset!("style.css", "text/css; charset=utf-8"),
    asset!("theme.js", SCRIPT),
    asset!("upload.js", SCRIPT),
    asset!("upload_list.js", SCRIPT),
    asset!("upload_queue.js", SCRIPT),
    asset!("why.js", SCRIPT),
];
/// Not modules of the page: one runs before it, the others in a worker.
const NOT_PRELOADED: &[&str] = &["theme.js", "hash_worker.js", "sha256.js"];

static ASSETS: LazyLock<Assets> = LazyLock::new(Assets::new);

impl Assets {
    /// Those of this binary.
    pub(crate) fn of_this_binary() -> &'static Self {
        &ASSETS
    }

    /// The file called `name`.
    pub(crate) fn find(name: &str) -> Option<Asset> {
        FILES.iter().find(|asset| asset.name == name).copied()
    }

    fn new() -> Self {
        let mut hasher = Sha256::new();
        for text in FILES.iter().map(|asset| asset.text).chain([PAGE]) {
            hasher.update(text.len().to_be_bytes());
            hasher.update(text);
        }
        let mut version = String::new();
        for byte in hasher.finalize().iter().take(VERSION_DIGITS / 2) {
            // Writing to a String cannot fail.
            let _ = write!(version, "{byte:02x}");
        }
        let base = format!("/console/{version}");
        let page = PAGE
            .replace("@preloads@", &preloads(&base))
            .replace("@assets@", &base);
        Self { version, page }
    }
}

/// All modules at once, and not one level of imports after the other.
fn preloads(base: &str) -> String {
    let modules = FILES
        .iter()
        .filter(|asset| asset.content_type == SCRIPT && !NOT_PRELOADED.contains(&asset.name));
    modules
        .map(|asset| {
            format!(
                "<link rel=\"modulepreload\" href=\"{base}/{}\">\n",
                asset.name
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn everything_in_the_folder_is_embedded_and_under_150_kilobytes() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("console");
        let mut found = BTreeSet::new();
        let mut bytes = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                found.insert(entry.file_name().into_string().unwrap());
                bytes += entry.metadata().unwrap().len();
            }
        }
        let mut embedded: BTreeSet<String> =
            FILES.iter().map(|asset| asset.name.to_owned()).collect();
        embedded.insert("index.html".to_owned());
        assert_eq!(embedded, found);
        assert!(bytes < 150_000, "{bytes} bytes");
    }

    #[test]
    fn the_page_refers_to_its_own_version_only() {
        let assets = Assets::of_this_binary();
        assert_eq!(assets.version.len(), VERSION_DIGITS);
        assert!(!assets.page.contains("@assets@") && !assets.page.contains("@preloads@"));
        let path = format!("/console/{}/app.js", assets.version);
        assert!(assets.page.contains(&path));
    }
}
