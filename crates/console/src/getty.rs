//! `getty`: logins at one terminal, one after the other.

use crate::dialogue::End;
use crate::{layout, login, say};
use nix::sys::signal::{SigSet, Signal};
use octant_ids::Exit;
use octant_sys::console;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

const HELP: &str = "\
Usage: getty [TERMINAL]
Offer logins at a terminal, one after the other: at the one on standard input, or at TERMINAL, such as /dev/tty2. PID 1
runs it on the console when octant.toml says [init] console = \"login\"; a unit file runs it on another terminal.
";

/// Between two logins: what fails at once must not fill the console.
const PAUSE: Duration = Duration::from_secs(1);
/// After a failure that no login can do anything about.
const AFTER_FAILURE: Duration = Duration::from_secs(10);

/// The program `getty`; what follows its name.
#[must_use]
pub fn getty(arguments: &[OsString]) -> Exit {
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    let opened = match words[..] {
        ["--help" | "-h"] => return told(HELP),
        ["--version" | "-V"] => return told(&format!("getty (octant) {}\n", env!("CARGO_PKG_VERSION"))),
        [] => Ok(()),
        [path] if !path.starts_with('-') => take_over(Path::new(path)),
        _ => {
            say("getty: these words are not understood; getty --help lists what there is");
            return Exit::Usage;
        }
    };
    if let Err(error) = opened {
        say(&format!("getty: {}: {error}", words.join(" ")));
        return Exit::Failed;
    }
    if !nix::unistd::geteuid().is_root() {
        say("getty: it has to run as root: it starts shells of other users");
        return Exit::Denied;
    }
    let layout = layout();
    loop {
        match login::round(&layout) {
            // The terminal was hung up, or nobody is at the other end of it.
            Ok(End::Told) => return Exit::Ok,
            Ok(End::Left) if !nix::unistd::isatty(io::stdin()).unwrap_or(false) => return Exit::Ok,
            Ok(_) => std::thread::sleep(PAUSE),
            Err(error) => {
                say(&format!("login: {error}"));
                if !nix::unistd::isatty(io::stdin()).unwrap_or(false) {
                    return Exit::Failed;
                }
                std::thread::sleep(AFTER_FAILURE);
            }
        }
    }
}

fn told(text: &str) -> Exit {
    match io::Write::write_all(&mut io::stdout(), text.as_bytes()) {
        Ok(()) => Exit::Ok,
        Err(_) => Exit::Failed,
    }
}

/// Makes the terminal this process's own: whoever else has it open loses it, or could read what is typed.
fn take_over(path: &Path) -> io::Result<()> {
    // The leader of a group cannot begin a session; PID 1 starts units as leaders of their own already.
    let _may_lead_already = nix::unistd::setsid();
    let open = || OpenOptions::new().read(true).write(true).custom_flags(nix::libc::O_NOCTTY).open(path);
    let first = open()?;
    console::take_control(&first)?;
    // The hangup is for all processes of the terminal, this one included.
    let hangup = SigSet::from_iter([Signal::SIGHUP]);
    hangup.thread_block()?;
    console::hang_up()?;
    drop(first);
    let terminal = open()?;
    console::take_control(&terminal)?;
    let _was_for_the_others =
        nix::sys::signalfd::SignalFd::with_flags(&hangup, nix::sys::signalfd::SfdFlags::SFD_NONBLOCK)?
            .read_signal()?;
    hangup.thread_unblock()?;
    nix::unistd::dup2_stdin(&terminal)?;
    nix::unistd::dup2_stdout(&terminal)?;
    Ok(nix::unistd::dup2_stderr(&terminal)?)
}
