//! The command line of `octant run`.

use crate::error::RunError;
use octant_manifest::Profile;
use octant_workstation::Layer;
use std::ffi::OsString;
use std::path::PathBuf;

/// What `octant run --help` shows.
pub(crate) const HELP: &str = "\
Run a program in a workstation, with no service running beforehand

Usage: octant run [OPTIONS] [--] COMMAND [ARGS...]

The current directory is /workspace inside, writable; the root is this machine's /usr, read-only. What in the current
directory runs later outside (.git/hooks, .git/config, .envrc, settings of editors and of agents) is read-only. There
is no network but to the hosts that a manifest of your own names (network.hosts). The exit code is the command's; 128 and
the signal's number if a signal ended it.

Options:
      --profile PROFILE        minimal, shell, python, node or compiler [default: by the command]
      --manifest FILE          a manifest of your own, signed by you or to be signed by your key, in place of a profile
      --accept-missing=LAYERS  go on without these layers of isolation: cgroup, nftables, hooks (development only; it is on record)
  -h, --help                   print this

Your key is made at the first use, in ~/.config/octant; what was run is on record in ~/.local/state/octant/run
(for root: below /var/lib/octant-run).

Examples:
  octant run -- bash
  octant run --profile compiler -- cargo build
  octant run --accept-missing=cgroup -- python3 agent.py
";

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Help,
    Run(Args),
}

/// What is to be run, and how.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Args {
    pub(crate) profile: Option<Profile>,
    pub(crate) manifest: Option<PathBuf>,
    pub(crate) accept_missing: Vec<Layer>,
    /// The command and its arguments; empty only where a manifest names the program.
    pub(crate) command: Vec<String>,
}

impl Args {
    pub(crate) fn parse(args: &[OsString]) -> Result<Asked, RunError> {
        let mut out = Self::default();
        let mut args = args.iter().map(|arg| arg.to_str().map(str::to_owned).ok_or(RunError::NotText));
        while let Some(arg) = args.next().transpose()? {
            let (name, given) = match arg.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name.to_owned(), Some(value.to_owned())),
                _ => (arg.clone(), None),
            };
            let mut value = || match given.clone() {
                Some(value) => Ok(value),
                None => args.next().transpose()?.ok_or_else(|| usage(format!("{name} needs a value"))),
            };
            match name.as_str() {
                "-h" | "--help" => return Ok(Asked::Help),
                "--profile" => out.profile = Some(profile(&value()?)?),
                "--manifest" => out.manifest = Some(value()?.into()),
                "--accept-missing" => {
                    out.accept_missing = value()?.split(',').map(layer).collect::<Result<_, _>>()?;
                }
                "--" => {
                    out.command = args.by_ref().collect::<Result<_, _>>()?;
                }
                option if option.starts_with('-') => return Err(usage(format!("unknown option {option}"))),
                _ => {
                    let rest = args.by_ref().collect::<Result<Vec<_>, _>>()?;
                    out.command = [arg].into_iter().chain(rest).collect();
                }
            }
        }
        if out.profile.is_some() && out.manifest.is_some() {
            return Err(usage("--profile and --manifest exclude each other".into()));
        }
        if out.command.is_empty() && out.manifest.is_none() {
            return Err(usage("what is to be run?".into()));
        }
        Ok(Asked::Run(out))
    }
}

fn usage(why: String) -> RunError {
    RunError::Usage(why)
}

fn profile(name: &str) -> Result<Profile, RunError> {
    Profile::of_name(name).ok_or_else(|| {
        let known: Vec<&str> = Profile::ALL.iter().map(|profile| profile.name()).collect();
        usage(format!("{name:?} is not a profile; there are {}", known.join(", ")))
    })
}

/// The one layer that a person can go without; what a user who is not root lacks is not for choosing.
fn layer(name: &str) -> Result<Layer, RunError> {
    Layer::acceptable(name).ok_or_else(|| {
        let known = Layer::ACCEPTABLE.map(Layer::name).join(", ");
        usage(format!("{name:?} is not a layer that can be missing; those are {known}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Asked, RunError> {
        Args::parse(&args.iter().map(OsString::from).collect::<Vec<_>>())
    }

    fn parsed(args: &[&str]) -> Args {
        match parse(args).unwrap() {
            Asked::Run(args) => args,
            Asked::Help => panic!("help"),
        }
    }

    #[test]
    fn options_come_before_the_command_and_are_not_looked_for_in_it() {
        let args = parsed(&["--profile=python", "--accept-missing", "cgroup", "--", "ls", "--help"]);
        assert_eq!((args.profile, args.accept_missing), (Some(Profile::Python), vec![Layer::Cgroup]));
        assert_eq!(args.command, ["ls", "--help"]);
        assert_eq!(parsed(&["ls", "--", "-h"]).command, ["ls", "--", "-h"]);
        assert_eq!(parse(&["--help"]).unwrap(), Asked::Help);
        assert!(parsed(&["--manifest", "m.toml"]).command.is_empty());
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let wrong: &[&[&str]] = &[
            &[],
            &["--"],
            &["--profile", "root", "--", "ls"],
            &["--profile"],
            &["--accept-missing=users", "--", "ls"],
            &["--accept-missing=cgroup,seccomp", "--", "ls"],
            &["--nonsense", "--", "ls"],
            &["--profile=shell", "--manifest=m", "--", "ls"],
        ];
        for args in wrong {
            assert!(matches!(parse(args), Err(RunError::Usage(_))), "{args:?}");
        }
    }
}
