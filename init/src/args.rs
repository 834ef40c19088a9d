//! What PID 1 is told on its command line.

use crate::config::ConsoleMode;
use octant_api::boot::Mode;
use std::ffi::OsString;
use std::path::PathBuf;

/// The arguments of `octant init`, or of the program that the kernel starts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InitArgs {
    /// Where it runs; `None`: found out.
    pub mode: Option<Mode>,
    /// All directories below this one instead of the system's.
    pub dir: Option<PathBuf>,
    /// A command to run once everything is ready; its end ends everything.
    pub job: Option<String>,
    /// Layers of isolation that may be missing.
    pub accept_missing: Vec<String>,
    /// The operator's user id.
    pub operator: u32,
    /// The descriptor with the state of the PID 1 that this one replaces.
    pub resume: Option<i32>,
    /// How many replacements have faulted before this one without getting as far as a state of their own.
    pub attempt: u32,
}

/// A command line that PID 1 does not understand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgsError {
    /// An option without its value.
    #[error("{0} needs a value; see `octant init --help`")]
    NoValue(String),
    /// A value of the wrong kind.
    #[error("{option} {value:?}: {why}")]
    Value {
        /// The option.
        option: &'static str,
        /// What was given.
        value: String,
        /// What would have been right.
        why: String,
    },
    /// An unknown argument.
    #[error("unknown argument {0:?}; known are --mode --dir --job --accept-missing --operator --resume")]
    Unknown(String),
}

/// The layers that may be named in `--accept-missing`.
const LAYERS: [&str; 3] = ["cgroup", "nftables", "hooks"];

/// Checks a layer's name.
///
/// # Errors
/// [`ArgsError::Value`] for a name that is not a layer which may be missing.
pub fn layer(value: String) -> Result<String, ArgsError> {
    if LAYERS.contains(&value.as_str()) {
        return Ok(value);
    }
    let why = format!("only these layers may be missing: {}", LAYERS.join(" "));
    Err(ArgsError::Value { option: "--accept-missing", value, why })
}

impl InitArgs {
    /// Reads the arguments that follow `octant init`.
    ///
    /// # Errors
    /// [`ArgsError`]: the first argument that is not understood.
    pub fn parse(args: &[OsString]) -> Result<Self, ArgsError> {
        let mut out = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let name = arg.to_string_lossy().into_owned();
            let mut value = || args.next().cloned().ok_or_else(|| ArgsError::NoValue(name.clone()));
            let text = |value: OsString| value.to_string_lossy().into_owned();
            match name.as_str() {
                "--mode" => out.mode = Some(number("--mode", text(value()?))?),
                "--dir" => out.dir = Some(value()?.into()),
                "--job" => out.job = Some(text(value()?)),
                "--accept-missing" => out.accept_missing.push(layer(text(value()?))?),
                "--operator" => out.operator = number("--operator", text(value()?))?,
                "--resume" => out.resume = Some(number("--resume", text(value()?))?),
                "--attempt" => out.attempt = number("--attempt", text(value()?))?,
                _ => return Err(ArgsError::Unknown(name)),
            }
        }
        Ok(out)
    }
}

fn number<T: std::str::FromStr<Err: std::fmt::Display>>(
    option: &'static str,
    value: String,
) -> Result<T, ArgsError> {
    value.parse().map_err(|why: T::Err| ArgsError::Value { option, value, why: why.to_string() })
}

/// What the kernel command line says to Octant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cmdline {
    /// `octant.job=`: a command; spaces and other bytes are written as `%20`, by their two hexadecimal digits.
    pub job: Option<String>,
    /// `octant.data=`: the block device with the state.
    pub data: Option<PathBuf>,
    /// `octant.console=`: what is on the console, whatever octant.toml says.
    pub console: Option<ConsoleMode>,
    /// `octant.config=`: where a machine configuration may come from, in order, with commas between.
    pub config: Vec<String>,
    /// `octant.operator=`: the identifier of the key whose configuration may bring the first operators.
    pub operator: Option<String>,
    /// `octant.accept-missing=`: layers that may be missing, for development.
    pub accept_missing: Vec<String>,
    /// Words with our prefix that are not understood; said on the console, never obeyed.
    pub unknown: Vec<String>,
}

impl Cmdline {
    /// Reads the content of `/proc/cmdline`.
    #[must_use]
    pub fn parse(line: &str) -> Self {
        let mut out = Self::default();
        for word in line.split_ascii_whitespace() {
            let Some(option) = word.strip_prefix("octant.") else { continue };
            match option.split_once('=') {
                Some(("job", command)) => match percent_decoded(command) {
                    Some(command) => out.job = Some(command),
                    None => out.unknown.push(word.to_owned()),
                },
                Some(("data", device)) if device.starts_with("/dev/") => out.data = Some(device.into()),
                Some(("console", word)) if ConsoleMode::of(word).is_some() => {
                    out.console = ConsoleMode::of(word)
                }
                Some(("config", sources)) if !sources.is_empty() => {
                    out.config.extend(sources.split(',').map(str::to_owned));
                }
                Some(("operator", key)) if key.parse::<octant_ids::Sha256>().is_ok() => {
                    out.operator = Some(key.to_owned());
                }
                // Read by whoever looks at a configuration.
                Some(("labels", words)) if !words.is_empty() => {}
                Some(("accept-missing", name)) if layer(name.to_owned()).is_ok() => {
                    out.accept_missing.push(name.to_owned());
                }
                _ => out.unknown.push(word.to_owned()),
            }
        }
        out
    }
}

/// The text with `%xx` read as the byte; `None` when a `%` is not followed by two digits or the result is no text.
fn percent_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            out.push(digit(bytes.next()?)? * 16 + digit(bytes.next()?)?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<InitArgs, ArgsError> {
        InitArgs::parse(&args.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn arguments_are_read_and_others_refused() {
        let args =
            parse(&["--mode", "namespace", "--dir", "/x", "--accept-missing", "cgroup", "--operator", "7"]);
        let args = args.unwrap();
        assert_eq!((args.mode, args.operator), (Some(Mode::Namespace), 7));
        assert_eq!(args.accept_missing, ["cgroup"]);
        assert!(matches!(parse(&["--mode"]), Err(ArgsError::NoValue(_))));
        assert!(matches!(parse(&["--mode", "vm"]), Err(ArgsError::Value { option: "--mode", .. })));
        assert!(matches!(parse(&["--accept-missing", "seccomp"]), Err(ArgsError::Value { .. })));
        assert_eq!(parse(&["splash"]), Err(ArgsError::Unknown("splash".into())));
    }

    #[test]
    fn the_kernel_command_line_is_read() {
        let line = "console=ttyS0 octant.job=echo%20hi%3Bls octant.data=/dev/vda octant.console=shell octant.x quiet\n";
        let cmdline = Cmdline::parse(line);
        assert_eq!(cmdline.job.as_deref(), Some("echo hi;ls"));
        assert_eq!(cmdline.data, Some("/dev/vda".into()));
        assert_eq!(cmdline.console, Some(ConsoleMode::Shell));
        assert_eq!(Cmdline::parse("octant.console=login").console, Some(ConsoleMode::Login));
        let config =
            Cmdline::parse("octant.config=smbios,disk:OCTANT-CFG octant.config=file:/x octant.operator=ab");
        assert_eq!(config.config, ["smbios", "disk:OCTANT-CFG", "file:/x"]);
        assert_eq!((config.operator, config.unknown), (None, vec!["octant.operator=ab".to_owned()]));
        assert!(Cmdline::parse("octant.labels=edge,eu").unknown.is_empty());
        assert_eq!(Cmdline::parse("octant.console=root").unknown, ["octant.console=root"]);
        assert_eq!(cmdline.unknown, ["octant.x"]);
        assert_eq!(Cmdline::parse("octant.job=%2").unknown, ["octant.job=%2"]);
        assert_eq!(Cmdline::parse("octant.data=../etc").unknown, ["octant.data=../etc"]);
    }
}
