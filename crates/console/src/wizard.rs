//! The first boot: a machine that nobody owns yet asks whoever is at its console.

use crate::accounts::{AccountError, Accounts, OpenedBy, is_name};
use crate::change::recorded;
use crate::dialogue::End;
use crate::login::{LoginError, Twice, ask_twice, lock};
use crate::terminal::{Answer, Terminal};
use crate::{directory, say};
use octant_api::operator::AccountChange;
use octant_ids::Layout;
use octant_sys::clock;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const WELCOME: &str = "
This machine has no operator yet. Whoever answers here becomes its owner: an
account for this console with user id 0, a key that manifests are signed with,
and a passphrase for the vault. Ctrl-C begins again; nothing is overwritten.

";

/// The machine has keys of operators and no account: whoever holds one of them owns it, and not who is at the console.
const OWNED: &str = "
This machine has an operator already, and no account for its console. Make one
from a shell that is root's:
  login --add NAME
";

const DONE: &str = "\nDone. Log in with the name and passphrase that you chose.\n";
const VAULT: &str = "\nThe vault keeps secrets. Its passphrase should be another one than yours.";
const NO_KEY: &str = "login: the operator's key is not complete; after the login:
  octant manifest keygen, then octant trust add";
const NO_VAULT: &str = "login: no vault was made; after the login:
  octant vault init --passphrase";

/// Whoever is at the console may take their time.
const WITHIN_NS: u64 = 600_000_000_000;
/// Before the text about an owned machine is shown again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Asks, and makes what is missing.
pub(crate) fn run(layout: &Layout, terminal_name: &str) -> Result<End, LoginError> {
    if has_operator(&layout.trusted()) {
        say(OWNED);
        std::thread::sleep(LOOK_AGAIN);
        return Ok(End::Late);
    }
    let mut terminal = Terminal::open().map_err(LoginError::Terminal)?;
    let Some((name, vault)) =
        questions(&mut terminal, layout).map_err(|error| error_of(error, terminal_name))?
    else {
        return Ok(End::Late);
    };
    drop(terminal);
    make_key(layout, &name);
    if vault {
        make_vault(&name);
    }
    say(DONE);
    Ok(End::Left)
}

fn error_of(error: LoginError, terminal_name: &str) -> LoginError {
    say(&format!("login: {terminal_name}: {error}"));
    error
}

/// A key of an operator in the trusted set, however good: then there is an owner.
fn has_operator(trusted: &Path) -> bool {
    match std::fs::read_dir(trusted) {
        Ok(mut entries) => entries.next().is_some(),
        // Only a set that is not there is known to be empty.
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

/// Name and passphrase become an account, and whether a vault is wanted; none when nobody answered.
fn questions(terminal: &mut Terminal, layout: &Layout) -> Result<Option<(String, bool)>, LoginError> {
    terminal.write(WELCOME).map_err(LoginError::Terminal)?;
    let deadline = clock::monotonic_ns() + WITHIN_NS;
    loop {
        let name =
            match terminal.ask("your name (a-z, 0-9, -): ", true, deadline).map_err(LoginError::Terminal)? {
                Answer::Line(line) => String::from_utf8_lossy(line.bytes()).trim().to_owned(),
                Answer::Cancelled => continue,
                Answer::Ended | Answer::TimedOut => return Ok(None),
            };
        if !is_name(&name) {
            terminal.write(&format!("{}\n", AccountError::Name(name))).map_err(LoginError::Terminal)?;
            continue;
        }
        let passphrase = match ask_twice(terminal, deadline).map_err(LoginError::Terminal)? {
            Twice::Same(line) => line,
            Twice::Differ => {
                terminal.write("the two differ\n").map_err(LoginError::Terminal)?;
                continue;
            }
            Twice::None => continue,
        };
        let one_at_a_time = lock(&directory(layout))?;
        let mut accounts = Accounts::load(&directory(layout))?;
        // Another terminal may have been quicker.
        if !accounts.list().is_empty() || has_operator(&layout.trusted()) {
            return Ok(None);
        }
        let by = OpenedBy::Passphrase(passphrase.bytes());
        match accounts.can_add(&name, 0, by) {
            Err(error @ AccountError::Short) => {
                terminal.write(&format!("{error}\n")).map_err(LoginError::Terminal)?;
                continue;
            }
            other => other?,
        }
        recorded(layout, &name, AccountChange::Made)?;
        accounts.add(&name, 0, by)?;
        drop(one_at_a_time);
        let vault =
            terminal.ask("make the vault now? [Y/n] ", true, deadline).map_err(LoginError::Terminal)?;
        let vault = matches!(vault, Answer::Line(line) if !line.bytes().starts_with(b"n"));
        return Ok(Some((name, vault)));
    }
}

/// This program as the operator's command line, with the terminal.
fn octant(words: &[&str]) -> bool {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("octant").args(words);
    match command.status() {
        Ok(status) => status.success(),
        Err(error) => {
            say(&format!("login: octant {}: {error}", words.join(" ")));
            false
        }
    }
}

/// The key with which manifests are signed, below the machine's state and trusted from now on.
fn make_key(layout: &Layout, name: &str) {
    let directory = directory(layout);
    let (into, public) =
        (directory.display().to_string(), directory.join(format!("{name}.pub")).display().to_string());
    // The machine's owner answers for everything on it: the role is the most that a manifest of this key can ask for.
    let made = octant(&["manifest", "keygen", name, "--role", "admin", "--into", &into])
        && octant(&["trust", "add", &public]);
    if !made {
        say(NO_KEY);
    }
}

/// The vault asks for its own passphrase. One that exists is left as it is.
fn make_vault(name: &str) {
    say(VAULT);
    if !octant(&["vault", "init", "--passphrase", "--label", name]) {
        say(NO_VAULT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::Scratch;
    use nix::sys::socket::{
        AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, accept, bind, listen, recv, send,
        socket,
    };
    use octant_api::operator::{Answer as Reply, Op, Request};
    use octant_sys::console::{open_master, open_terminal};
    use std::fs::{self, File};
    use std::os::fd::{AsFd, AsRawFd};

    /// A serial line has so many, and says nothing of it.
    const COLUMNS: usize = 80;
    const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/first-boot.txt");

    /// PID 1 for one report, which it takes.
    fn takes_one(layout: &Layout) -> std::thread::JoinHandle<Request> {
        fs::create_dir_all(&layout.run).unwrap();
        fs::create_dir_all(&layout.state).unwrap();
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(fd.as_raw_fd(), &UnixAddr::new(&layout.operator_socket()).unwrap()).unwrap();
        listen(&fd, Backlog::new(1).unwrap()).unwrap();
        std::thread::spawn(move || {
            let from = octant_sys::inherit::take(accept(fd.as_raw_fd()).unwrap()).unwrap();
            let mut frame = [0; Request::LEN];
            let length = recv(from.as_raw_fd(), &mut frame, MsgFlags::empty()).unwrap();
            let reply = Reply::Result { ok: true, text: String::new() };
            send(from.as_raw_fd(), &reply.encode(), MsgFlags::empty()).unwrap();
            Request::decode(&frame[..length]).unwrap()
        })
    }

    #[test]
    fn the_questions_of_a_first_boot_are_as_they_are_written_down_and_fit_a_serial_line() {
        let scratch = Scratch::new("first-boot");
        let layout = Layout::under(&scratch.0);
        let pid_1 = takes_one(&layout);
        let devpts = File::open("/dev/pts").unwrap();
        let master = open_master(devpts.as_fd()).unwrap();
        let mut terminal = Terminal::take(open_terminal(master.as_fd()).unwrap()).unwrap();
        // No name; too short; two that differ; changed one's mind; and then as it has to be.
        for typed in [
            "Not A Name\r",
            "alice\rshort\rshort\r",
            "alice\rcorrect horse\rcorrect house\r",
            "ali\x03",
            "alice\rcorrect horse\rcorrect horse\r",
            "\r",
        ] {
            nix::unistd::write(&master, typed.as_bytes()).unwrap();
        }
        let answers = questions(&mut terminal, &layout).unwrap();
        assert_eq!(answers, Some(("alice".to_owned(), true)));
        let told = pid_1.join().unwrap();
        assert_eq!((told.op, told.arg), (Op::Account, AccountChange::Made as i32), "{told:?}");
        drop(terminal);
        let mut shown = Vec::new();
        let mut part = [0; 4096];
        // EIO is how a terminal ends whose other side nobody has open.
        while let Ok(length @ 1..) = nix::unistd::read(&master, &mut part) {
            shown.extend_from_slice(&part[..length]);
        }
        let shown = String::from_utf8(shown).unwrap().replace("\r\n", "\n");
        let wide: Vec<&str> = [shown.as_str(), OWNED, DONE, VAULT, NO_KEY, NO_VAULT]
            .iter()
            .flat_map(|text| text.lines())
            .filter(|line| line.len() >= COLUMNS)
            .collect();
        assert!(wide.is_empty(), "{wide:#?}");
        assert!(!shown.contains("correct"), "a passphrase is shown: {shown}");
        if std::env::var_os("UPDATE").is_some() {
            fs::create_dir_all(Path::new(GOLDEN).parent().unwrap()).unwrap();
            fs::write(GOLDEN, &shown).unwrap();
        }
        assert_eq!(fs::read_to_string(GOLDEN).unwrap_or_default(), shown, "UPDATE=1 rewrites {GOLDEN}");
    }

    #[test]
    fn a_machine_with_any_key_has_an_owner() {
        let scratch = Scratch::new("owner");
        let trusted = scratch.0.join("trusted");
        assert!(!has_operator(&trusted));
        fs::create_dir(&trusted).unwrap();
        assert!(!has_operator(&trusted));
        fs::write(trusted.join("alice.pub"), "").unwrap();
        assert!(has_operator(&trusted));
        assert!(has_operator(&trusted.join("alice.pub")), "a set that cannot be read is not empty");
    }
}
