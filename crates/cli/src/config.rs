//! `octant config`: what the machine is configured as. The editions are files of root's; PID 1 puts one in force, and where
//! it does not run the next start does.

mod edit;
mod show;

use crate::args::Config as Command;
use crate::error::CliError;
use crate::manifest::{invalid, read, signing_key, write_over};
use crate::operator::Operator;
use crate::out::{Out, Table, printable};
use crate::service::Service;
use crate::{Links, units};
use octant_api::ledger::{HeadRequest, Kind, QueryRequest};
use octant_api::operator::Op;
use octant_config::{First, Here, TakeError, Taken};
use octant_editions::{BASE, Editions, StoreError, TEXT, Verdict, name};
use octant_ids::{Exit, Layout};
use octant_manifest::{
    Change, CheckTable, ConfigErrors, ConfigProblem, ConfigRefusal, Effect, MachineConfig, SignedConfig,
    changes, config_template, limits, sign_config,
};
use octant_sys::clock;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

const KIND: &str = "configuration";
/// For how long a new configuration can be taken, unless its author says otherwise: a year.
const VALID_MS: u64 = 365 * 86_400_000;
/// How long the ledger may take to have what PID 1 has sent it.
const RECORDED_WITHIN_MS: u64 = 5_000;
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The command.
pub(crate) fn run(command: &Command, layout: &Layout, links: Links, out: &mut Out) -> Result<(), CliError> {
    let this = Config { layout, editions: Editions::of(layout), links };
    match command {
        Command::New { serial } => this.new_text(*serial, out),
        Command::Check { file: None } => units::check_config(links.check_config, layout, out),
        Command::Check { file: Some(file) } => this.check(file, out),
        Command::Sign { file, key, output } => this.sign(file, key, output.as_deref(), out),
        Command::Diff { file } => this.diff(file.as_deref(), out),
        Command::Edit { key, wait } => this.edit(key, wait.0, out),
        Command::Apply { file, wait } => this.apply(file, wait.0, out),
        Command::Show { text: None } => show::show(layout, &this.editions, out),
        Command::Show { text: Some(edition) } => this.text(*edition, out),
        Command::Rollback { edition } => this.rollback(*edition, out),
    }
}

struct Config<'a> {
    layout: &'a Layout,
    editions: Editions,
    links: Links,
}

fn store(error: StoreError) -> CliError {
    if error.source.kind() == std::io::ErrorKind::Other {
        let (what, why) = (error.path.display().to_string(), error.source.to_string());
        return CliError::Refused { what, why, exit: Exit::Failed, next: Some("octant config show".into()) };
    }
    CliError::Write { path: error.path, source: error.source }
}

fn taken(file: &Path, error: TakeError) -> CliError {
    match error {
        TakeError::Refused(ConfigRefusal::Text(errors)) => wrong(file, &errors),
        TakeError::Refused(ConfigRefusal::Envelope(error)) => invalid(file, KIND, &error),
        TakeError::Refused(refusal) => unverified(file, &refusal),
        TakeError::Trusted(error) => invalid(file, "set of trusted keys", &error),
        TakeError::Read { path, source } => CliError::Read { path, source },
        TakeError::Store(error) => store(error),
    }
}

fn unverified(file: &Path, refusal: &ConfigRefusal) -> CliError {
    let next = "octant trust list shows whom this machine trusts, octant config show what is in force".into();
    CliError::Unverified { what: file.display().to_string(), why: refusal.to_string(), next }
}

fn wrong(file: &Path, errors: &ConfigErrors) -> CliError {
    let lines: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
    let (count, lines) = (lines.len(), lines.join("\n"));
    let things = if count == 1 { "1 thing is wrong" } else { "these things are wrong" };
    invalid(file, KIND, &format!("{things}:\n{lines}"))
}

#[derive(Serialize)]
struct Checked<'a> {
    valid: bool,
    problems: &'a [ConfigProblem],
    serial: Option<u64>,
    signer: Option<String>,
}

#[derive(Serialize)]
struct Signed<'a> {
    file: &'a Path,
    serial: u64,
    key: String,
}

#[derive(Serialize)]
struct Differs {
    from: u32,
    changes: Vec<Change>,
}

#[derive(Serialize)]
struct Applied {
    edition: u32,
    serial: Option<u64>,
    digest: Option<String>,
    changes: Vec<Change>,
    /// Whether PID 1 has followed; otherwise the next start does.
    live: bool,
    verdict: &'static str,
}

impl Config<'_> {
    fn check_table(&self) -> Result<CheckTable, CliError> {
        self.links.check_table.ok_or_else(|| {
            let (what, why) =
                ("cannot look at a configuration".to_owned(), "this build has no PID 1 in it".to_owned());
            CliError::Refused { what, why, exit: Exit::Unavailable, next: None }
        })
    }

    fn here(&self) -> Result<Here, CliError> {
        Here::look(self.layout).map_err(|error| taken(&self.layout.trusted(), error))
    }

    fn new_text(&self, serial: Option<u64>, out: &mut Out) -> Result<(), CliError> {
        let next = || self.editions.serial().map(|serial| serial.saturating_add(1)).map_err(store);
        let serial = serial.map_or_else(next, Ok)?;
        out.raw(config_template(serial, clock::wall_ms().saturating_add(VALID_MS)).as_bytes())
    }

    /// The text of a file, signed or not; nobody vouches for it.
    fn load(&self, file: &Path) -> Result<(Vec<u8>, Option<SignedConfig>), CliError> {
        let bytes = read(file, KIND, limits::ENVELOPE_BYTES)?;
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Ok((bytes, None));
        }
        let signed = SignedConfig::parse(&bytes).map_err(|refusal| taken(file, refusal.into()))?;
        Ok((signed.payload().to_vec(), Some(signed)))
    }

    fn check(&self, file: &Path, out: &mut Out) -> Result<(), CliError> {
        let check = self.check_table()?;
        let (text, signed) = self.load(file)?;
        let config = match MachineConfig::parse(&text, check) {
            Ok(config) => config,
            Err(errors) => {
                if out.json {
                    out.json(&Checked { valid: false, problems: &errors.0, serial: None, signer: None })?;
                }
                return Err(wrong(file, &errors));
            }
        };
        let signer = match signed {
            None => None,
            Some(signed) => {
                let here = self.here()?;
                let site = here.site(check).map_err(|error| taken(file, error))?;
                let accepted =
                    signed.verify(&here.keys, &site).map_err(|refusal| taken(file, refusal.into()))?;
                Some(accepted.signer.operator)
            }
        };
        if out.json {
            return out.json(&Checked { valid: true, problems: &[], serial: Some(config.serial), signer });
        }
        let (path, serial) = (file.display(), config.serial);
        match signer {
            Some(operator) => out.line(format_args!(
                "{path}: serial {serial}, signed by {operator}; octant config apply takes it"
            )),
            None => out.line(format_args!("{path}: serial {serial}, in order; next: octant config sign")),
        }
    }

    fn sign(&self, file: &Path, key: &Path, output: Option<&Path>, out: &mut Out) -> Result<(), CliError> {
        let text = read(file, KIND, limits::MANIFEST_BYTES)?;
        let config =
            MachineConfig::parse(&text, self.check_table()?).map_err(|errors| wrong(file, &errors))?;
        let key = signing_key(key)?;
        let envelope = sign_config(&text, &[&key]);
        let Some(output) = output else { return out.raw(&envelope) };
        write_over(output, &envelope)?;
        let (serial, id) = (config.serial, key.id().to_string());
        if out.json {
            return out.json(&Signed { file: output, serial, key: id });
        }
        out.line(format_args!("{}: serial {serial}, signed with key {}", output.display(), &id[..16]))
    }

    /// What an edition says; nothing for the image's own.
    fn of_edition(&self, edition: u32) -> Result<Option<MachineConfig>, CliError> {
        if edition == BASE {
            return Ok(None);
        }
        let path = self.editions.place(edition).join(TEXT);
        let text = read(&path, KIND, limits::MANIFEST_BYTES)?;
        // An owner may have become stricter since it was taken: what it said is still what it said.
        MachineConfig::parse(&text, |_, _, _| Ok(())).map(Some).map_err(|errors| wrong(&path, &errors))
    }

    fn diff(&self, file: Option<&Path>, out: &mut Out) -> Result<(), CliError> {
        let current = self.editions.current();
        let (from, is) = match file {
            Some(file) => {
                let (text, _) = self.load(file)?;
                let config = MachineConfig::parse(&text, self.check_table()?).map_err(|e| wrong(file, &e))?;
                (current, Some(config))
            }
            None => (self.before(current), self.of_edition(current)?),
        };
        let changes = changes(self.of_edition(from)?.as_ref(), is.as_ref());
        if out.json {
            return out.json(&Differs { from, changes });
        }
        if changes.is_empty() {
            return out.line(format_args!("nothing is different from {}", name(from)));
        }
        table(&changes, out)
    }

    /// The last good one before an edition.
    fn before(&self, edition: u32) -> u32 {
        let all = self.editions.list().into_iter().rev();
        let good = |n: &u32| *n < edition && self.editions.verdict(*n) == Verdict::Good;
        all.into_iter().find(good).unwrap_or(BASE)
    }

    fn apply(&self, file: &Path, wait_ms: u64, out: &mut Out) -> Result<(), CliError> {
        let bytes = read(file, KIND, limits::ENVELOPE_BYTES)?;
        let path = file.canonicalize().unwrap_or_else(|_| file.to_owned());
        let (source, check) = (format!("file:{}", path.display()), self.check_table()?);
        let done =
            self.here()?.take(&bytes, &source, First::No, check).map_err(|error| taken(file, error))?;
        let edition = match done {
            Taken::New(edition, _) => edition,
            Taken::Known(edition) => edition,
        };
        self.put_in_force(edition, wait_ms, out)
    }

    fn rollback(&self, edition: Option<u32>, out: &mut Out) -> Result<(), CliError> {
        let edition = edition.unwrap_or_else(|| self.before(self.editions.current()));
        if edition == self.editions.current() {
            return Err(CliError::NotFound("earlier configuration that worked".into()));
        }
        self.put_in_force(edition, 0, out)
    }

    /// On record first, then done by PID 1; where it does not run, by the next start, which puts it on record.
    fn put_in_force(&self, edition: u32, wait_ms: u64, out: &mut Out) -> Result<(), CliError> {
        if edition != BASE && self.editions.info(edition).is_none() {
            return Err(CliError::NotFound(format!(
                "configuration {edition}; octant config show lists them"
            )));
        }
        if let Verdict::Bad(why) = self.editions.verdict(edition) {
            let next = Some("sign it again with a higher serial number to try it once more".to_owned());
            let what = format!("cannot put {} in force", name(edition));
            return Err(CliError::Refused { what, why, exit: Exit::Unhealthy, next });
        }
        let changes =
            changes(self.of_edition(self.editions.current())?.as_ref(), self.of_edition(edition)?.as_ref());
        let operator = Operator::new(self.layout);
        let live = match self.intend(&operator, edition) {
            Ok(()) => true,
            Err(CliError::Connect { ref source, .. }) if not_running(source) => false,
            Err(error) => return Err(error),
        };
        if live {
            operator.act_with(Op::Configure, "", number(edition), "put a configuration in force")?;
        } else {
            self.editions.choose(edition).map_err(store)?;
        }
        let verdict =
            if live { self.wait_for_word(edition, wait_ms) } else { self.editions.verdict(edition) };
        self.tell(edition, changes, live, &verdict, out)?;
        match verdict {
            Verdict::Bad(why) => {
                Err(CliError::Unhealthy(format!("configuration {edition} does not work: {why}")))
            }
            Verdict::Open if wait_ms > 0 && live => Err(CliError::Unhealthy(format!(
                "configuration {edition} has not shown within {} s that it works",
                wait_ms / 1000
            ))),
            _ => Ok(()),
        }
    }

    /// Asks PID 1 to put the intent on record, and waits until the ledger has it.
    fn intend(&self, operator: &Operator, edition: u32) -> Result<(), CliError> {
        let ledger = Service::of(self.layout, "ledger");
        // PID 1 first: where it does not run, neither does the ledger.
        operator.status()?;
        let after = ledger.call(&HeadRequest::default())?.seq;
        operator.act_with(Op::Intend, "", number(edition), "put a configuration on record")?;
        let words = format!("intend {}", name(edition));
        let end_ns = clock::monotonic_ns().saturating_add(RECORDED_WITHIN_MS * 1_000_000);
        loop {
            let asked =
                QueryRequest { from: after + 1, kinds: vec![Kind::Command], ..QueryRequest::default() };
            let entries = ledger.call(&asked)?.entries;
            let has = |entry| serde_json::to_string(entry).is_ok_and(|text| text.contains(&words));
            if entries.iter().any(has) {
                return Ok(());
            }
            if clock::monotonic_ns() > end_ns {
                let (what, why) =
                    (words, "the ledger does not take it, and nothing is done that is not on record");
                let next = Some("octant status shows the ledger's state".to_owned());
                return Err(CliError::Refused { what, why: why.into(), exit: Exit::Unavailable, next });
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    fn wait_for_word(&self, edition: u32, wait_ms: u64) -> Verdict {
        let end_ns = clock::monotonic_ns().saturating_add(wait_ms.saturating_mul(1_000_000));
        loop {
            let verdict = self.editions.verdict(edition);
            if verdict != Verdict::Open || clock::monotonic_ns() >= end_ns {
                return verdict;
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    fn tell(
        &self,
        edition: u32,
        changes: Vec<Change>,
        live: bool,
        verdict: &Verdict,
        out: &mut Out,
    ) -> Result<(), CliError> {
        let info = self.editions.info(edition);
        if out.json {
            let (serial, digest) = (info.as_ref().map(|info| info.serial), info.map(|info| info.digest));
            return out.json(&Applied {
                edition,
                serial,
                digest,
                changes,
                live,
                verdict: show::word(verdict),
            });
        }
        table(&changes, out)?;
        let ended: Vec<&str> = changes
            .iter()
            .filter(|change| change.is.is_none())
            .filter_map(|change| change.field.strip_prefix("agents.")?.strip_suffix(".manifest"))
            .collect();
        if !ended.is_empty() {
            out.line(format_args!("{} goes on; octant agent kill ends it", ended.join(" ")))?;
        }
        match (live, verdict) {
            (false, _) => out.line(format_args!(
                "{} is in force from the next start on, and is put on record then: Octant does not run",
                name(edition)
            )),
            (true, Verdict::Good) => out.line(format_args!("{} is in force", name(edition))),
            (true, Verdict::Bad(_)) => Ok(()),
            (true, Verdict::Open) => out.line(format_args!(
                "{} is in force, and has still to show that it works: octant config show",
                name(edition)
            )),
        }
    }

    fn text(&self, edition: u32, out: &mut Out) -> Result<(), CliError> {
        let edition = if edition == BASE { self.editions.current() } else { edition };
        if edition == BASE {
            return Err(CliError::NotFound("configuration in force; octant.toml of the image is".into()));
        }
        let path: PathBuf = self.editions.place(edition).join(TEXT);
        out.raw(&read(&path, KIND, limits::MANIFEST_BYTES)?)
    }
}

fn not_running(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused)
}

fn number(edition: u32) -> i32 {
    i32::try_from(edition).unwrap_or(i32::MAX)
}

fn table(changes: &[Change], out: &mut Out) -> Result<(), CliError> {
    let mut table = Table::new(&["FIELD", "WAS", "IS", "TAKES"]);
    for Change { field, was, is, effect, unit } in changes {
        let takes = match (effect, unit) {
            (Effect::None, _) => "-".to_owned(),
            (Effect::Live, _) => "at once".to_owned(),
            (Effect::Restart, unit) => format!("{} anew", unit.as_deref().unwrap_or("its service")),
            (Effect::Reboot, _) => "the next boot".to_owned(),
        };
        let shown = |value: &Option<String>| value.as_deref().map_or_else(|| "-".to_owned(), printable);
        table.row([field.clone(), shown(was), shown(is), takes]);
    }
    out.table(&table)
}
