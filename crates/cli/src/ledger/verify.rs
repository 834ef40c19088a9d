//! `octant ledger verify`: the ledger's own report about itself, with what was given to compare it with.

use super::keys::{checkpoint, verifier};
use crate::VerifyRecord;
use crate::args::Against;
use crate::error::CliError;
use crate::out::{Out, Ticking, printable};
use crate::service::Service;
use octant_api::ledger::{CheckpointRequest, Damage, VerifyReport, VerifyRequest};
use octant_tlog::checkpoint::Signed;
use octant_tlog::note::Verifier;
use std::path::Path;

/// How cosignatures get to the ledger.
const FEED: &str = "`octant ledger feed` takes the checkpoint to the witnesses and their cosignatures back; then verify again";

/// Where the ledger says that a payload is damaged that it keeps apart from its entry.
const PAYLOADS: &str = "payloads";

/// The command without a file.
pub(super) fn run(service: &Service, against: &Against, out: &mut Out) -> Result<(), CliError> {
    let key = against.key.as_deref().map(verifier).transpose()?;
    let witnesses: Vec<Verifier> =
        against.witness.iter().map(|key| verifier(key)).collect::<Result<_, _>>()?;
    let mut names: Vec<String> = against.checkpoint.iter().map(|path| path.display().to_string()).collect();
    let mut checkpoints =
        against.checkpoint.iter().map(|path| checkpoint(path)).collect::<Result<Vec<_>, _>>()?;
    // What the given keys say about the newest checkpoint; the ledger then has to agree with that very checkpoint.
    let mut cosigned = None;
    if key.is_some() || !witnesses.is_empty() {
        let newest = newest(service, key.as_ref())?;
        cosigned =
            Some(newest.cosigners(&witnesses).iter().map(|by| by.name().to_owned()).collect::<Vec<_>>());
        names.push("its newest checkpoint".to_owned());
        checkpoints.push(newest.to_text());
    }
    let progress = Ticking::new(out.json, "recomputing every hash from the first entry on".to_owned());
    let mut report = service.call(&VerifyRequest { checkpoints })?;
    drop(progress);
    // The service calls what came with the request `given`, in the order of the request.
    let given = report.outside.iter_mut().filter(|compared| compared.from == "given");
    given.zip(names).for_each(|(compared, name)| compared.from = name);
    if out.json {
        out.json(&report)?;
    } else {
        print(&report, out)?;
        if let Some(key) = &key {
            out.paragraph(
                "proven: ",
                &format!("the newest checkpoint is signed with the given key of {}", key.name()),
            )?;
        }
    }
    wrong(&report)?;
    match cosigned.filter(|_| !witnesses.is_empty()) {
        Some(have) => {
            let all: Vec<String> = witnesses.iter().map(|witness| witness.name().to_owned()).collect();
            let quorum = against.quorum.map_or(all.len(), count);
            quorum_of(&report, quorum, &all, &have)
        }
        None => {
            let quorum = against.quorum.unwrap_or(report.witnessed.quorum);
            quorum_of(&report, count(quorum), &report.witnessed.witnesses, &report.witnessed.have)
        }
    }
}

/// The command with the directory of a record that no service keeps.
pub(super) fn record(
    dir: &Path,
    against: &Against,
    verify: Option<VerifyRecord>,
    out: &mut Out,
) -> Result<(), CliError> {
    let failed = |why: String| CliError::Unverified {
        what: format!("the record in {}", dir.display()),
        why,
        next: "give the directory that `octant run --help` names, and checkpoints that were kept of it"
            .to_owned(),
    };
    if against.key.is_some() || !against.witness.is_empty() || against.quorum.is_some() {
        return Err(failed(
            "keys and witnesses are compared with what a running ledger or an export says".into(),
        ));
    }
    let verify = verify.ok_or_else(|| failed("this build cannot read it".into()))?;
    let checkpoints =
        against.checkpoint.iter().map(|path| checkpoint(path)).collect::<Result<Vec<_>, _>>()?;
    let mut report = verify(dir, &checkpoints).map_err(failed)?;
    let given = report.outside.iter_mut().filter(|compared| compared.from == "given");
    given.zip(&against.checkpoint).for_each(|(compared, path)| compared.from = path.display().to_string());
    if out.json {
        out.json(&report)?;
    } else {
        print(&report, out)?;
    }
    wrong(&report)
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The newest checkpoint, signed with the given key where one was given.
pub(super) fn newest(service: &Service, key: Option<&Verifier>) -> Result<Signed, CliError> {
    let info = service.call(&CheckpointRequest {})?;
    let key = match key {
        Some(key) => key.clone(),
        None => info.key.parse().map_err(|error| super::odd(service, format!("its key: {error}")))?,
    };
    Signed::open(&info.checkpoint, &key).map_err(|error| CliError::Unverified {
        what: "the ledger's newest checkpoint".to_owned(),
        why: error.to_string(),
        next: "compare the key with the one that was noted when this ledger was set up; after an acknowledged loss \
               it is a new one"
            .to_owned(),
    })
}

fn print(report: &VerifyReport, out: &mut Out) -> Result<(), CliError> {
    let VerifyReport { entries, archived, segments, bytes, head, root, checkpointed, .. } = report;
    out.line(format_args!(
        "{entries} entries in {segments} segments ({bytes} bytes) verify; the last one is"
    ))?;
    out.line(head)?;
    out.line(format_args!("the newest checkpoint covers {checkpointed} of them; the root of all is"))?;
    out.line(root)?;
    if *archived > 0 {
        out.line(format_args!("{archived} of them are archived: the tree covers them, they were not read"))?;
    }
    for compared in report.outside.iter().filter(|compared| compared.wrong.is_none()) {
        let mut text = format!("it continues {}, which covers {} entries", compared.from, compared.size);
        if !compared.cosigned.is_empty() {
            text = format!("{text}; cosigned by {}", compared.cosigned.join(", "));
        }
        out.paragraph("proven: ", &text)?;
    }
    let witnessed = &report.witnessed;
    if witnessed.quorum > 0 {
        let text =
            format!("{} of {} needed: {}", witnessed.have.len(), witnessed.quorum, witnessed.have.join(", "));
        out.paragraph("witnesses: ", text.trim_end_matches([':', ' ']))?;
        out.line(format_args!("complete up to entry {}", witnessed.complete_to))?;
    }
    report.not_proven.iter().try_for_each(|text| out.paragraph("not proven: ", text))
}

fn wrong(report: &VerifyReport) -> Result<(), CliError> {
    if let Some(damage) = &report.damage {
        let Damage { segment, offset, seq, .. } = damage;
        // A payload that is kept apart is a file of its own: the log before and after it is whole.
        let what = if segment == PAYLOADS {
            format!("the payload of ledger entry {seq}")
        } else {
            format!("ledger entry {seq} ({segment} at byte {offset})")
        };
        return Err(CliError::Unverified { what, why: damage.what.clone(), next: damage.next.clone() });
    }
    let differs = report.outside.iter().find_map(|compared| Some((compared, compared.wrong.as_ref()?)));
    match differs {
        None => Ok(()),
        Some((compared, why)) => Err(CliError::Unverified {
            what: format!("the ledger against the checkpoint {}", compared.from),
            why: why.clone(),
            next: "keep that checkpoint and a copy of the ledger's state: one of the two is not what this log was"
                .to_owned(),
        }),
    }
}

fn quorum_of(report: &VerifyReport, quorum: usize, all: &[String], have: &[String]) -> Result<(), CliError> {
    if have.len() >= quorum {
        return Ok(());
    }
    let missing: Vec<&str> = all.iter().filter(|name| !have.contains(name)).map(String::as_str).collect();
    let mut why = format!("{} of {quorum} witnesses have cosigned its newest checkpoint", have.len());
    if !missing.is_empty() {
        why = format!("{why}, missing: {}", printable(&missing.join(", ")));
    }
    let complete_to = report.witnessed.complete_to;
    if complete_to > 0 {
        why = format!("{why}; it is complete up to entry {complete_to}");
    }
    Err(CliError::Incomplete { what: "the ledger".to_owned(), why, next: FEED.to_owned() })
}
