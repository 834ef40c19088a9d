//! `tail`: the last part of files, and what is added to them.

mod follow;
mod part;

use crate::options::{Options, Stop, because, run};
use crate::output::{complain, help_or_version};
use follow::Follower;
use part::Part;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

const HELP: &str = "\
Usage: tail [OPTION]... [FILE]...
Print the last ten lines of each file, or of standard input.

  -n [+]NUM, -NUM   the last NUM lines, or with + all from line NUM on
  -c [+]NUM         the last NUM bytes, or with + all from byte NUM on
  -f, --follow[=descriptor|name]   go on as the file grows; by its name, also when another file takes its place
  -F                --follow=name --retry
  --retry           go on trying to open a file that cannot be
  -s SECONDS        look so often (0.1)
  --pid=PID         end when this process has ended
  -q, -v            never, or always, print names
  -z                lines end in a zero byte
NUM may have a unit: b for 512, K, M, G, T for powers of 1024, KB and its like for powers of 1000.
";

const TABLE: &str = "n|lines= c|bytes= f |follow? F |retry s|sleep-interval= |pid= q|quiet |silent v|verbose \
    z|zero-terminated |max-unchanged-stats= 0 1 2 3 4 5 6 7 8 9";

/// How often files are looked at, where it is not said.
const INTERVAL: Duration = Duration::from_millis(100);

/// What the command line said.
#[derive(Debug)]
struct Request {
    part: Part,
    line_end: u8,
    follow: Option<Follow>,
    retry: bool,
    interval: Duration,
    process: Option<nix::unistd::Pid>,
    headers: bool,
    files: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Follow {
    Descriptor,
    Name,
}

pub(crate) fn tail(arguments: Vec<OsString>) -> i32 {
    if let Some(code) = help_or_version(&arguments, "tail", HELP) {
        return code;
    }
    run("tail", || {
        let request = request(arguments)?;
        let written = io::stdout().as_fd().try_clone_to_owned().map(File::from);
        let mut out = Output { file: written.map_err(unwritten)?, headers: request.headers, last: None };
        tell(&request, &mut out)
    })
}

fn wrong(text: impl std::fmt::Display) -> Stop {
    Stop::new(1, format!("{text}; tail --help lists what there is"))
}

fn unwritten(error: io::Error) -> Stop {
    Stop::new(1, because("write error", &error))
}

fn request(mut arguments: Vec<OsString>) -> Result<Request, Stop> {
    let old = old_form(&mut arguments);
    let options = Options::parse(TABLE, &arguments).map_err(wrong)?;
    let mut part = old.unwrap_or(Part::LastLines(10));
    let mut digits = String::new();
    let mut follow = None;
    for (key, value) in options.given() {
        match key {
            "n" | "c" => part = Part::parse(&value.to_string_lossy(), key == "c").map_err(wrong)?,
            "F" => follow = Some(Follow::Name),
            "f" => follow = Some(Follow::Descriptor),
            "follow" => {
                follow = Some(match value.as_bytes() {
                    b"" | b"descriptor" => Follow::Descriptor,
                    b"name" => Follow::Name,
                    _ => return Err(wrong("--follow: descriptor or name")),
                });
            }
            digit if digit.as_bytes()[0].is_ascii_digit() => {
                digits.push_str(digit);
                part = Part::parse(&digits, false).map_err(wrong)?;
            }
            _ => {}
        }
    }
    let interval = options.parsed::<f64>("s")?.map(Duration::try_from_secs_f64).transpose();
    let quiet = options.has("q") || options.has("quiet") || options.has("silent");
    let files = if options.rest.is_empty() { vec!["-".into()] } else { options.rest.clone() };
    Ok(Request {
        part,
        line_end: if options.has("z") { 0 } else { b'\n' },
        follow,
        retry: options.has("retry") || options.has("F"),
        interval: interval.map_err(|_| wrong("-s: no number of seconds"))?.unwrap_or(INTERVAL),
        process: options.parsed("pid")?.map(nix::unistd::Pid::from_raw),
        headers: !quiet && (files.len() > 1 || options.has("v")),
        files,
    })
}

/// `+NUM`, which was an option once, is still one before the only operand.
fn old_form(arguments: &mut Vec<OsString>) -> Option<Part> {
    let text = arguments.get(1)?.to_str()?;
    let digits = text.strip_prefix('+')?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) || arguments.len() > 3 {
        return None;
    }
    let part = Part::parse(text, false).ok()?;
    arguments.remove(1);
    Some(part)
}

/// Prints the part of each file, and goes on with those that are followed.
fn tell(request: &Request, out: &mut Output) -> Result<i32, Stop> {
    let mut follower = Follower::new(request);
    let mut code = 0;
    for name in &request.files {
        let opened = open(name);
        let printed = match opened {
            Ok(mut file) => {
                out.header(name).map_err(unwritten)?;
                part::print(request.part, request.line_end, &mut file, &mut out.file).map(|()| Some(file))
            }
            Err(error) => Err(part::Failure::Read(error)),
        };
        match printed {
            Ok(Some(file)) => follower.add(name, Some(file)),
            Ok(None) => {}
            Err(part::Failure::Write(error)) => return Err(unwritten(error)),
            Err(part::Failure::Read(error)) => {
                code = 1;
                complain("tail", &because(shown(name), &error));
                follower.add(name, None);
            }
        }
    }
    if request.follow.is_some() && !follower.run(out).map_err(unwritten)? {
        complain("tail", &"no files remaining");
        code = 1;
    }
    Ok(code)
}

fn open(name: &OsStr) -> io::Result<File> {
    if name == "-" {
        return Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?));
    }
    let file = File::open(name)?;
    if file.metadata()?.is_dir() {
        return Err(nix::errno::Errno::EISDIR.into());
    }
    Ok(file)
}

fn shown(name: &OsStr) -> String {
    if name == "-" { "standard input".into() } else { name.to_string_lossy().into_owned() }
}

/// Standard output, and whose lines it has last.
#[derive(Debug)]
struct Output {
    file: File,
    headers: bool,
    last: Option<OsString>,
}

impl Output {
    /// Says whose lines come, if those before were another's.
    fn header(&mut self, name: &OsStr) -> io::Result<()> {
        if !self.headers || self.last.as_deref() == Some(name) {
            return Ok(());
        }
        let before = if self.last.is_some() { "\n" } else { "" };
        self.last = Some(name.to_owned());
        self.file.write_all(before.as_bytes())?;
        self.file.write_all(b"==> ")?;
        self.file.write_all(if name == "-" { b"standard input" } else { name.as_bytes() })?;
        self.file.write_all(b" <==\n")
    }
}
