//! What an export that holds together proves, and what it does not.

use super::check::{Body, Given, Kept, Order};
use super::report::{Compared, Cosigned, Fault, Report, Wrong};
use crate::checkpoint::Signed;
use crate::note::Verifier;
use octant_ids::{Sha256, utc};

impl Body {
    /// After the last line, on this line.
    pub(super) fn finish(self, given: &Given, line: u64) -> Result<Report, Wrong> {
        let outside = self.outside(given).map_err(|(seq, fault)| Wrong { line, seq: Some(seq), fault })?;
        let agreed = outside.iter().map(|compared| compared.size).max().unwrap_or(0);
        if let Order::All(state, _) = &self.order {
            if state.tree().root() != self.signed.checkpoint.root {
                return Err(Wrong { line, seq: Some(agreed + 1), fault: Fault::Root });
            }
            if !self.keys.ends_with(&self.key) {
                return Err(Wrong { line, seq: None, fault: Fault::LastKey });
            }
        }
        let ours = !given.witnesses.is_empty();
        let witnesses = if ours { &given.witnesses } else { &self.witnesses };
        let all = u32::try_from(witnesses.len()).unwrap_or(u32::MAX);
        let quorum = given.quorum.unwrap_or(if ours { all } else { self.header.quorum });
        let cosigned: Vec<Cosigned> = self
            .signed
            .cosigners(witnesses)
            .into_iter()
            .filter_map(|witness| {
                let at_seconds = self.signed.cosigned_by(witness).ok()?;
                Some(Cosigned { name: witness.name().to_owned(), at_seconds, given: ours })
            })
            .collect();
        let seals = match &self.order {
            Order::All(..) => self.seals,
            Order::Some(links) => links.seals,
        };
        let mut report = Report {
            entries: self.entries,
            from: self.header.from,
            to: self.header.to,
            agent: self.header.agent,
            complete: self.header.complete,
            origin: self.header.origin.clone(),
            size: self.signed.checkpoint.size,
            root: self.signed.checkpoint.root,
            head: self.last.map_or(Sha256::ZERO, |(_, hash)| hash),
            key: self.key.to_string(),
            key_given: given.key.is_some(),
            cosigned,
            quorum,
            payloads: self.payloads,
            absent: self.absent,
            elsewhere: self.elsewhere,
            seals,
            outside,
            proven: Vec::new(),
            not_proven: Vec::new(),
        };
        self.content_of(&mut report);
        self.authors_of(witnesses, &mut report);
        self.age_of(&mut report);
        Ok(report)
    }

    /// Compares with the checkpoints from outside; on failure, the first entry that cannot be relied on.
    fn outside(&self, given: &Given) -> Result<Vec<Compared>, (u64, Fault)> {
        let size = self.signed.checkpoint.size;
        let mut agreed = 0;
        let mut compared = Vec::new();
        let mut order: Vec<_> = given.checkpoints.iter().zip(&self.roots).collect();
        order.sort_by_key(|(kept, _)| kept.signed.checkpoint.size);
        for (kept, root) in order {
            let (name, theirs) = (kept.name.clone(), &kept.signed.checkpoint);
            let covers = theirs.size;
            self.ours(kept).map_err(|why| (agreed + 1, Fault::Foreign { name: name.clone(), why }))?;
            if covers > size {
                return Err((size + 1, Fault::Shorter { name, covers, size }));
            }
            let root = if covers == size { Some(self.signed.checkpoint.root) } else { *root };
            match root {
                Some(root) if root != theirs.root => {
                    return Err((agreed + 1, Fault::Differs { name, covers }));
                }
                Some(_) => {
                    agreed = covers;
                    compared.push(Compared { name, size: covers });
                }
                // Cannot be compared with a part of the log; the report says so.
                None => {}
            }
        }
        Ok(compared)
    }

    /// Whether a checkpoint from outside is signed with a key of this log.
    fn ours(&self, kept: &Kept) -> Result<(), String> {
        let past = self.keys.past.iter().map(|past| &past.key);
        let origin = &kept.signed.checkpoint.origin;
        let key = std::iter::once(&self.key).chain(past).find(|key| key.name() == origin);
        let key = key.ok_or_else(|| format!("it is of {origin}, this is {}", self.header.origin))?;
        Signed::open(&kept.signed.to_text(), key).map(drop).map_err(|error| error.to_string())
    }

    /// What is proven of the entries that are there.
    fn content_of(&self, report: &mut Report) {
        let Report { from, to, size, entries, absent, elsewhere, .. } = *report;
        let origin = &report.origin;
        let (proven, open) = (&mut report.proven, &mut report.not_proven);
        let sealed = match &self.order {
            Order::All(..) => false,
            Order::Some(links) => links.sealed.is_some(),
        };
        match report.agent {
            _ if report.complete => {
                proven.push(format!("the {size} entries of {origin} are all here, unaltered and in order"));
            }
            None => {
                proven.push(format!("entries {from} to {to} are in {origin}, unaltered and in order"));
                open.push(format!("anything about the other entries of {size}: they are not here"));
            }
            Some(agent) => {
                proven
                    .push(format!("{entries} entries about {agent} are in {origin}, unaltered and in order"));
                // The seal was compared with all of the agent's entries, from the first on.
                let whole = sealed && report.seals > 0;
                if from > 1 && !whole {
                    open.push(format!("whether the agent has entries before entry {from}"));
                }
                if whole {
                    proven.push("none of the agent's entries is missing before its seal".to_owned());
                } else if sealed {
                    proven.push(format!(
                        "none of the agent's entries from entry {from} on is missing before its seal"
                    ));
                } else {
                    open.push(
                        "whether more entries about the agent follow: no seal is among these".to_owned(),
                    );
                }
            }
        }
        if absent > 0 {
            open.push(format!("what {absent} entries said whose payload was erased or left out"));
        }
        if elsewhere > 0 {
            open.push(format!("what {elsewhere} entries said whose payload is kept elsewhere"));
        }
        for past in self.keys.past.iter().filter(|past| past.covered >= past.ended) {
            open.push(format!(
                "what the entries up to {} were that the key {} had signed: entry {} begins anew after a loss",
                past.covered,
                past.key.name(),
                past.ended
            ));
        }
    }

    /// What is proven of those who signed.
    fn authors_of(&self, witnesses: &[Verifier], report: &mut Report) {
        let name = self.key.name();
        if report.key_given {
            report.proven.push(format!("{name} has signed the checkpoint, with the key that was given"));
        } else {
            let text =
                format!("who signed: no key was given, and anyone can have made the file's own key {name}");
            report.not_proven.push(text);
        }
        for Cosigned { name, given, .. } in &report.cosigned {
            if *given {
                report.proven.push(format!("witness {name} has cosigned the checkpoint"));
            } else {
                let text = format!("that witness {name} has cosigned: its key comes from the file");
                report.not_proven.push(text);
            }
        }
        for witness in witnesses {
            let has = report.cosigned.iter().any(|cosigned| cosigned.name == witness.name());
            if let (false, Err(error)) = (has, self.signed.cosigned_by(witness)) {
                report.not_proven.push(format!("that witness {} has seen this log: {error}", witness.name()));
            }
        }
    }

    /// What is proven of what the log was at other times, and to others.
    ///
    /// Witnesses cosign only what continues what they cosigned before, so a quorum closes what would take a second tree
    /// of the same size. It does not show that nothing came after: a copy from then has its cosignatures too.
    fn age_of(&self, report: &mut Report) {
        let witnessed = report.quorum > 0 && report.has_quorum() && report.cosigned.iter().all(|by| by.given);
        let kept = report.outside.iter().map(|compared| compared.size).max();
        for Compared { name, size } in &report.outside {
            report
                .proven
                .push(format!("the log continues the checkpoint {name}, which covers {size} entries"));
        }
        let after = match kept {
            Some(kept) if kept >= report.size => return,
            Some(kept) => format!(" after entry {kept}"),
            None => String::new(),
        };
        let newest = report.cosigned.iter().map(|by| by.at_seconds).max().filter(|_| witnessed);
        let since = newest.map_or(String::new(), |at| {
            format!(" since the newest cosignature, at {}", utc(at.saturating_mul(1000)))
        });
        report.not_proven.extend([
            format!("cut tail: whether entries{after} were cut off the end{since}"),
            format!("restored copy: whether the log was set back to an earlier state{after}{since}"),
        ]);
        if !witnessed {
            report.not_proven.extend([
                format!("rewritten chain: whether who has the log's key wrote entries{after} anew"),
                format!("split view: whether others were shown other entries{after}"),
            ]);
        }
    }
}
