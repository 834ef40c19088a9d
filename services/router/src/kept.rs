//! Prompts and answers that are kept for operators, where a manifest says so: the newest, up to a bound.

use octant_ids::Aid;
use serde_json::json;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How many bytes of a prompt, and of an answer, are kept.
const EACH_MAX: usize = 1 << 20;
/// How many bytes of all files together.
const ALL_MAX: u64 = 256 << 20;

/// What is kept of one call.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) prompt: Vec<u8>,
    pub(crate) answer: Vec<u8>,
}

impl Said {
    /// More of the answer.
    pub(crate) fn more(&mut self, bytes: &[u8]) {
        let room = EACH_MAX.saturating_sub(self.answer.len()).min(bytes.len());
        self.answer.extend_from_slice(&bytes[..room]);
    }
}

/// Where they are.
#[derive(Debug, Clone)]
pub(crate) struct Keeper {
    dir: PathBuf,
    most: u64,
}

impl Keeper {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir, most: ALL_MAX }
    }

    /// Keeps what was said in a call, under the number of its intent, and lets the oldest go.
    pub(crate) fn keep(&self, aid: Aid, intent: u64, said: &Said) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(EACH_MAX)]).into_owned();
        let body = json!({"agent": aid, "intent": intent, "prompt": text(&said.prompt), "answer": text(&said.answer)});
        // Numbers of one width, so that the order of names is that of time.
        let path = self.dir.join(format!("{intent:020}.json"));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(body.to_string().as_bytes())?;
        prune(&self.dir, self.most)
    }
}

fn prune(dir: &Path, most: u64) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        match entry.metadata() {
            Ok(metadata) => files.push((entry.file_name(), metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    files.sort();
    let mut all: u64 = files.iter().map(|(_, bytes)| bytes).sum();
    for (name, bytes) in files {
        if all <= most {
            break;
        }
        match fs::remove_file(dir.join(name)) {
            // Another call was faster.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        all -= bytes;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_keep_at_a_time_do_not_stand_in_each_others_way() {
        let dir = std::env::temp_dir().join(format!("octant-kept-many-{}", std::process::id()));
        let keeper = Keeper { dir: dir.clone(), most: 1000 };
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let keeper = keeper.clone();
                scope.spawn(move || {
                    let said = Said { prompt: vec![b'a'; 200], ..Said::default() };
                    for intent in 0..50 {
                        keeper.keep(Aid::from_bytes([1; 16]), thread * 50 + intent, &said).unwrap();
                    }
                });
            }
        });
        assert!(fs::read_dir(&dir).unwrap().count() <= 12);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn the_newest_are_kept_up_to_the_bound() {
        let dir = std::env::temp_dir().join(format!("octant-kept-{}", std::process::id()));
        let keeper = Keeper { dir: dir.clone(), most: 1000 };
        let mut said = Said { prompt: vec![b'a'; 200], ..Said::default() };
        said.more(b"hello");
        for intent in [5, 9, 10, 11, 100] {
            keeper.keep(Aid::from_bytes([1; 16]), intent, &said).unwrap();
        }
        let mut names: Vec<_> =
            fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert!(names.len() == 3 && names[2].starts_with("00000000000000000100"), "{names:?}");
        assert!(fs::read_to_string(dir.join(&names[2])).unwrap().contains("\"answer\":\"hello\""));
        fs::remove_dir_all(dir).unwrap();
        said.more(&vec![0; 2 * EACH_MAX]);
        assert_eq!(said.answer.len(), EACH_MAX);
    }
}
