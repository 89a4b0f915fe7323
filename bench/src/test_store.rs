//! [`TestStore`]: the store that is measured: one of its own in a new directory, or one that runs already.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use richardstore_drills::{Process, ProcessSpec};
use serde::Deserialize;

use crate::connection::Addresses;
use crate::place::Place;
use crate::process_meter::{ProcessMeter, Usage};

/// The store under test. Dropping it kills its process and removes what it stored.
pub struct TestStore {
    addresses: Addresses,
    // Before the directory, so that nothing writes there any more when it goes.
    process: Option<Process>,
    _directory: Option<Place>,
}

/// `dev.json`, by which `dev` says where its parts are.
#[derive(Deserialize)]
struct DevAddresses {
    url: String,
    namenode: String,
}

impl TestStore {
    /// A store that runs already. What it uses is not known.
    pub fn running(addresses: Addresses) -> Self {
        Self {
            addresses,
            process: None,
            _directory: None,
        }
    }

    /// A new store of `binary` with three datanodes, in a new directory under `place`. A new one for each mode: creating
    /// files after a mass delete is slow on ext4 for minutes, and would be measured in place of the store.
    ///
    /// # Errors
    /// It did not start.
    pub async fn start(binary: &Path, place: &Path) -> Result<Self> {
        let directory = Place::under(place)?;
        let data = directory.path().join("data");
        let arguments = ["dev", "--listen", "127.0.0.1:0", "--namenode-listen"]
            .into_iter()
            .chain(["127.0.0.1:0", "--log", "warn", "--dir"]);
        let mut arguments: Vec<OsString> = arguments.map(OsString::from).collect();
        arguments.push(data.clone().into());
        let spec = ProcessSpec {
            binary: binary.to_owned(),
            arguments,
            log: directory.path().join("log"),
        };
        let process = spec.start("http://").await?;
        let found = std::fs::read(data.join("dev.json"))?;
        let found: DevAddresses = serde_json::from_slice(&found)?;
        Ok(Self {
            addresses: Addresses {
                gateway: found.url.trim_start_matches("http://").to_owned(),
                namenode: found.namenode,
            },
            process: Some(process),
            _directory: Some(directory),
        })
    }

    /// Where it is.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// What its process has used until now; `None` for a store that somebody else runs.
    pub fn usage(&self) -> Option<Usage> {
        let pid = self.process.as_ref()?.id()?;
        ProcessMeter::new(pid).usage().ok()
    }
}

/// The binary that this is.
///
/// # Errors
/// The system does not say.
pub fn this_binary() -> Result<PathBuf> {
    std::env::current_exe().context("the path of this program is not known")
}
