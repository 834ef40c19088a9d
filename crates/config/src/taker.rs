//! The process that PID 1 starts before anything else and waits for: it looks where the kernel command line says, and
//! makes an edition of what it finds, in this order: read the bytes; give up every capability, every path but the
//! editions' directory, and every system call but a few; then look at the bytes.

use crate::{First, Here, Source, SourceError, TakeError, Taken};
use octant_editions::{Editions, StoreError, Verdict};
use octant_ids::{Exit, Layout};
use octant_manifest::{CheckTable, KeyId};
use octant_service::{ServiceError, confine_helper_in};
use std::ffi::OsString;
use std::io::{self, Write};

/// The system calls that are left.
const PROFILE: &str = include_str!("../profile.json");
/// The longest reason that is kept for `octant config show`.
const REASON_MAX: usize = 1000;

#[derive(Debug, thiserror::Error)]
enum TakerError {
    #[error("this is for PID 1: config-taker [--dir DIR] [--operator KEY] SOURCE...")]
    Usage,
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Take(#[from] TakeError),
    #[error("configuration from {origin}: {source}")]
    Refused { origin: String, source: TakeError },
    #[error("nothing is looked at without confinement: {0}")]
    Confine(#[from] ServiceError),
    #[error("nothing is looked at with capabilities: {0}")]
    Capabilities(#[from] caps::errors::CapsError),
}

#[derive(Debug)]
struct Args {
    layout: Layout,
    operator: Option<KeyId>,
    sources: Vec<Source>,
}

/// `octant config-taker`; what follows the name. Its words are for the console.
#[must_use]
pub fn taker(arguments: &[OsString], check: CheckTable) -> Exit {
    let parsed = parse(arguments);
    let editions = parsed.as_ref().map(|args| Editions::of(&args.layout)).ok();
    let (exit, words) = match parsed.and_then(|args| run(&args, check)) {
        Ok(words) => (Exit::Ok, words),
        Err(error) => {
            let mut words = error.to_string();
            let kept: String = words.chars().take(REASON_MAX).collect();
            if let Some(Err(error)) =
                editions.map(|editions| editions.refuse(Some(&format!("refused: {kept}"))))
            {
                words += &format!("\n{error}");
            }
            (Exit::Invalid, words)
        }
    };
    let _nobody_else_to_tell = writeln!(io::stdout(), "{words}");
    exit
}

fn parse(arguments: &[OsString]) -> Result<Args, TakerError> {
    let mut args = Args { layout: Layout::system(), operator: None, sources: Vec::new() };
    let mut words = arguments.iter().filter_map(|word| word.to_str());
    while let Some(word) = words.next() {
        match word {
            "--dir" => args.layout = Layout::under(words.next().ok_or(TakerError::Usage)?.as_ref()),
            "--operator" => {
                let key = words.next().and_then(|key| key.parse().ok());
                args.operator = Some(KeyId(key.ok_or(TakerError::Usage)?));
            }
            source => args.sources.push(source.parse()?),
        }
    }
    if args.sources.is_empty() { Err(TakerError::Usage) } else { Ok(args) }
}

fn run(args: &Args, check: CheckTable) -> Result<String, TakerError> {
    let here = Here::look(&args.layout)?;
    let (found, absent) = first_there(&args.sources)?;
    let editions = Editions::of(&args.layout);
    let Some((source, bytes)) = found else { return Ok(nothing(&absent)) };
    let dir = editions.dir();
    editions.make().map_err(TakeError::from)?;
    confine(dir)?;
    let Some(envelope) = source.open(bytes)? else { return Ok(nothing(&[source.to_string()])) };
    let origin = source.to_string();
    let refused = |source| TakerError::Refused { origin: origin.clone(), source };
    let taken = here.take(&envelope, &origin, First::Yes(args.operator), check).map_err(refused)?;
    let edition = match taken {
        Taken::New(edition, accepted) => {
            editions.choose(edition).map_err(TakeError::from)?;
            let (serial, operator) = (accepted.config.serial, &accepted.signer.operator);
            let trust = editions.info(edition).map(|info| info.trust).unwrap_or_default();
            return Ok(format!(
                "configuration {edition} from {source}: serial {serial}, signed by {operator} ({trust})"
            ));
        }
        Taken::Known(edition) => edition,
    };
    known(&editions, edition, source).map_err(|error| TakeError::from(error).into())
}

/// What follows where the source has what was accepted before.
pub(crate) fn known(editions: &Editions, edition: u32, source: &Source) -> Result<String, StoreError> {
    let what = format!("configuration {edition}");
    Ok(match editions.verdict(edition) {
        _ if edition == editions.current() => format!("{what} is the one from {source}"),
        Verdict::Bad(why) => format!("{what}, the one from {source}, did not work: {why}"),
        // The power went between the two steps of taking it: without this the machine would be nobody's for ever, since it
        // takes its first operators once.
        Verdict::Open if !editions.chosen() => {
            editions.choose(edition)?;
            format!("{what}, the one from {source}, was accepted before and is in force now")
        }
        Verdict::Open if edition > editions.current() => {
            format!(
                "{what}, the one from {source}, was accepted and is not in force; octant config apply puts it there"
            )
        }
        _ => format!("{what}, the one from {source}, is older than what is in force"),
    })
}

/// The first source at which there is something, with that, and those before it. It counts, whatever comes of it: who adds
/// a later one changes nothing.
pub(crate) fn first_there(sources: &[Source]) -> Result<(Option<Found<'_>>, Vec<String>), SourceError> {
    let mut absent = Vec::new();
    for source in sources {
        match source.read()? {
            Some(bytes) => return Ok((Some((source, bytes)), absent)),
            None => absent.push(source.to_string()),
        }
    }
    Ok((None, absent))
}

/// A source, and the bytes that lie there.
type Found<'a> = (&'a Source, Vec<u8>);

fn nothing(places: &[String]) -> String {
    format!("no configuration at {}", places.join(", "))
}

fn confine(dir: &std::path::Path) -> Result<(), TakerError> {
    for set in [caps::CapSet::Effective, caps::CapSet::Permitted, caps::CapSet::Inheritable] {
        caps::clear(None, set)?;
    }
    Ok(confine_helper_in("config-taker", &[PROFILE], dir)?)
}
