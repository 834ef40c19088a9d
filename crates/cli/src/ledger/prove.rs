//! Proofs and checkpoints, for somebody else to keep.

use super::keys::{checkpoint, verifier};
use super::{odd, verify};
use crate::error::CliError;
use crate::out::{Out, printable};
use crate::service::Service;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use octant_api::ledger::{CheckpointRequest, ImportRequest, Proof, ProveRequest};
use octant_tlog::entry::decode;
use octant_tlog::merkle::leaf_hash;
use octant_tlog::note::Verifier;
use octant_tlog::proof::InclusionProof;
use std::fs;
use std::path::Path;

/// The command `octant ledger prove`.
pub(super) fn prove(
    service: &Service,
    seq: u64,
    output: Option<&Path>,
    key: Option<&str>,
    out: &mut Out,
) -> Result<(), CliError> {
    let given = key.map(verifier).transpose()?;
    let proof = service.call(&ProveRequest { seq })?;
    let key = match &given {
        Some(key) => key.clone(),
        None => proof.key.parse().map_err(|error| odd(service, format!("its key: {error}")))?,
    };
    // What is handed on has to prove what it says it proves.
    check(&proof, seq, &key).map_err(|why| CliError::Unverified {
        what: format!("the ledger's proof of entry {seq}"),
        why,
        next: "`octant ledger verify` says what is wrong with the ledger itself".to_owned(),
    })?;
    if given.is_none() {
        out.note(
            "the key is the one that the ledger names; --key KEY compares it with one that was noted before",
        );
    }
    let Some(output) = output else {
        return if out.json { out.json(&proof) } else { out.raw(proof.proof.as_bytes()) };
    };
    let write = |source| CliError::Write { path: output.to_owned(), source };
    // A reader sees the old file or the new one, never a half: the new one is renamed into place.
    let mut new = output.as_os_str().to_owned();
    new.push(".new");
    fs::write(&new, &proof.proof).and_then(|()| fs::rename(&new, output)).map_err(write)?;
    if out.json {
        return out.json(&proof);
    }
    out.line(format_args!("{} proves entry {seq}, whose hash is {}", output.display(), proof.hash))
}

/// The same by the key that the ledger itself names.
pub(crate) fn check_proof(proof: &Proof, seq: u64) -> Result<(), String> {
    let key = proof.key.parse().map_err(|error| format!("its key: {error}"))?;
    check(proof, seq, &key)
}

/// Whether a proof is of this entry, and right.
fn check(proof: &Proof, seq: u64, key: &Verifier) -> Result<(), String> {
    let parsed = InclusionProof::parse(&proof.proof).map_err(|error| error.to_string())?;
    if proof.seq != seq || parsed.index.checked_add(1) != Some(seq) {
        return Err("it is of another entry".to_owned());
    }
    if let Some(entry) = &proof.entry {
        let bytes = STANDARD.decode(entry).map_err(|_| "the entry beside it is not base 64".to_owned())?;
        let entry = decode(&bytes).map_err(|error| format!("the entry beside it: {error}"))?;
        if entry.seq != seq || leaf_hash(&bytes) != proof.hash {
            return Err("the entry beside it is another one".to_owned());
        }
    }
    parsed.verify(&proof.hash, key).map(drop).map_err(|error| error.to_string())
}

/// The command `octant ledger checkpoint`.
pub(super) fn print(service: &Service, key: bool, out: &mut Out) -> Result<(), CliError> {
    if out.json || key {
        let info = service.call(&CheckpointRequest {})?;
        return if out.json { out.json(&info) } else { out.line(printable(&info.key)) };
    }
    let newest = verify::newest(service, None)?;
    out.raw(newest.to_text().as_bytes())
}

/// The command `octant ledger import-checkpoint`.
pub(super) fn import(service: &Service, file: &Path, out: &mut Out) -> Result<(), CliError> {
    let compared = service.call(&ImportRequest { checkpoint: checkpoint(file)? })?;
    if out.json {
        out.json(&compared)?;
    }
    if let Some(why) = compared.wrong {
        return Err(CliError::Unverified {
            what: format!("the ledger against {}", file.display()),
            why,
            next: "keep that checkpoint and a copy of the ledger's state: one of the two is not what this log was"
                .to_owned(),
        });
    }
    if out.json {
        return Ok(());
    }
    out.line(format_args!("the ledger continues this checkpoint, which covers {} entries", compared.size))?;
    if !compared.cosigned.is_empty() {
        out.line(format_args!("cosigned by {}", printable(&compared.cosigned.join(", "))))?;
    }
    out.line("it is kept: every `octant ledger verify` compares with it again")
}
