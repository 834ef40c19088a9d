//! Keys and checkpoints that whoever verifies has from elsewhere.

use crate::args::Against;
use crate::error::CliError;
use crate::manifest::{invalid, read, text};
use octant_tlog::bundle::{Given, Kept};
use octant_tlog::checkpoint::Signed;
use octant_tlog::note::Verifier;
use std::path::Path;

/// The longest file with a key or a checkpoint: what `ledger.import` takes.
const FILE_MAX: usize = 64 << 10;

/// A verifier key, or the first line of the file that has it.
pub(crate) fn verifier(given: &str) -> Result<Verifier, CliError> {
    let not_a_key = match given.parse() {
        Ok(key) => return Ok(key),
        Err(error) => error,
    };
    let path = Path::new(given);
    // A path can have a + in it too; where no such file is, it was meant as a key.
    if given.contains('+') && !path.exists() {
        return Err(invalid(path, "verifier key", &not_a_key));
    }
    let text = text(read(path, "verifier key", FILE_MAX)?, path, "verifier key")?;
    text.lines()
        .next()
        .unwrap_or_default()
        .trim()
        .parse()
        .map_err(|error| invalid(path, "verifier key", &error))
}

/// The text of a file with a signed checkpoint.
pub(super) fn checkpoint(path: &Path) -> Result<String, CliError> {
    let text = text(read(path, "checkpoint", FILE_MAX)?, path, "checkpoint")?;
    Signed::parse_unverified(&text).map_err(|error| invalid(path, "checkpoint", &error))?;
    Ok(text)
}

/// Everything that was given, for the check of an export.
pub(super) fn given(against: &Against) -> Result<Given, CliError> {
    let kept = |path: &std::path::PathBuf| {
        let text = checkpoint(path)?;
        let signed = Signed::parse_unverified(&text).map_err(|error| invalid(path, "checkpoint", &error))?;
        Ok(Kept { name: path.display().to_string(), signed })
    };
    Ok(Given {
        key: against.key.as_deref().map(verifier).transpose()?,
        witnesses: against.witness.iter().map(|key| verifier(key)).collect::<Result<_, _>>()?,
        quorum: against.quorum,
        checkpoints: against.checkpoint.iter().map(kept).collect::<Result<_, CliError>>()?,
    })
}
