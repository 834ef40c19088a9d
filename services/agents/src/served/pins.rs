//! Which tools an operator has seen and approved, of each server, as it described them then. On stable storage, a file for
//! each server.

use octant_api::text::Json;
use octant_ids::Sha256;
use octant_mcp::client::Offered;
use octant_service::{KeepError, replace};
use serde::{Deserialize, Serialize};
use sha2::Digest;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

const DIR: &str = "tools";
/// The longest file: every byte of the longest list can take six.
const FILE_MAX: u64 = 2 << 20;

/// Why pins cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PinError {
    #[error("{step} {}: {source}", path.display())]
    Io { step: &'static str, path: PathBuf, source: io::Error },
}

/// What is pinned of one server: the text of each tool, by the server's own name of it.
pub(crate) type Pinned = BTreeMap<String, String>;

/// The digest of a tool's text.
pub(crate) fn digest(text: &str) -> Sha256 {
    Sha256(sha2::Sha256::digest(text).into())
}

/// A tool that is not pinned as it is offered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Change {
    pub(crate) tool: String,
    /// What was approved.
    pub(crate) was: Option<Json>,
    /// What it is now.
    pub(crate) now: Json,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    server: String,
    tools: Pinned,
}

/// The pins of every server.
#[derive(Debug)]
pub(crate) struct Pins {
    dir: PathBuf,
    servers: Mutex<BTreeMap<String, Pinned>>,
}

impl Pins {
    /// Reads them, in a directory that exists. Of a server whose file is damaged nothing is pinned: an operator is asked again.
    pub(crate) fn open(state: &Path) -> Result<Self, PinError> {
        let dir = state.join(DIR);
        let failed = |step, path: &Path| {
            let path = path.to_owned();
            move |source| PinError::Io { step, path, source }
        };
        fs::create_dir_all(&dir).map_err(failed("create", &dir))?;
        let mut servers = BTreeMap::new();
        for entry in fs::read_dir(&dir).map_err(failed("list", &dir))? {
            let path = entry.map_err(failed("list", &dir))?.path();
            // A file that was being replaced when the machine stopped is none.
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let mut bytes = Vec::new();
            let read = File::open(&path).and_then(|file| file.take(FILE_MAX).read_to_end(&mut bytes));
            read.map_err(failed("read", &path))?;
            match serde_json::from_slice::<Kept>(&bytes) {
                Ok(kept) if path.file_stem().is_some_and(|name| *name == *kept.server) => {
                    servers.insert(kept.server, kept.tools);
                }
                read => {
                    let why = read.err().map_or("it is another server's".to_owned(), |e| e.to_string());
                    tracing::error!("{} is damaged: {why}; an operator is asked again", path.display());
                }
            }
        }
        Ok(Self { dir, servers: Mutex::new(servers) })
    }

    fn servers(&self) -> MutexGuard<'_, BTreeMap<String, Pinned>> {
        // Nothing here panics while it holds the lock, so what it guards is whole.
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The text of a tool that is pinned as it is offered.
    pub(crate) fn holds(&self, server: &str, tool: &Offered) -> bool {
        self.servers().get(server).and_then(|pinned| pinned.get(&tool.name)) == Some(&tool.text)
    }

    /// What an operator has to see: the tools that are not pinned as they are offered.
    pub(crate) fn changes(
        &self,
        server: &str,
        listed: &BTreeMap<String, Offered>,
    ) -> serde_json::Result<Vec<Change>> {
        let servers = self.servers();
        let was = |tool: &Offered| servers.get(server).and_then(|pinned| pinned.get(&tool.name));
        let raw = |text: &String| Json::from_text(text.clone());
        let other = listed.values().filter(|tool| was(tool) != Some(&tool.text));
        let change = |tool: &Offered| {
            let (was, now) = (was(tool).map(raw).transpose()?, raw(&tool.text)?);
            Ok(Change { tool: tool.name.clone(), was, now })
        };
        other.map(change).collect()
    }

    /// Pins a server's list as it is, durably, and only then counts it as pinned. What is no longer on it is forgotten.
    pub(crate) fn pin(&self, server: &str, listed: &BTreeMap<String, Offered>) -> Result<(), KeepError> {
        let mut servers = self.servers();
        let tools = listed.iter().map(|(name, tool)| (name.clone(), tool.text.clone())).collect();
        let kept = Kept { server: server.to_owned(), tools };
        // Names and texts: there is nothing in it that JSON cannot say.
        let bytes = serde_json::to_vec(&kept).unwrap_or_default();
        replace(&self.dir.join(server).with_extension("json"), &bytes, true)?;
        servers.insert(kept.server, kept.tools);
        Ok(())
    }
}
