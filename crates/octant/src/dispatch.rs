//! From a command line to a role.

use crate::granted::Granted;
use octant_applets::{Applet, Invocation, find};
use std::ffi::{OsStr, OsString};
use std::path::Path;

/// The shell's name.
pub(crate) const SHELL: &str = "sh";

/// PID 1's name.
const INIT: &str = "init";

/// Operator's commands that can be called by their own name, with a line of text each.
pub(crate) const BY_NAME: &[(&str, &str)] = &[
    ("halt", "Stop everything in order and halt"),
    ("poweroff", "Stop everything in order and switch the machine off"),
    ("reboot", "Stop everything in order and start the machine again"),
];

/// Operator's commands that have a utility's name: `octant top` is the command, `top` the utility. Where only what was
/// granted runs there is no command.
const COMMANDS_FIRST: [&str; 1] = ["top"];
/// What is before a shell on a console; a workstation has neither.
pub(crate) const CONSOLE: &[(&str, &str)] = &[
    ("getty", "Offer logins at a terminal, one after the other"),
    ("login", "Ask for a name and passphrase, then run a shell"),
];

fn console(name: &OsStr, rest: Vec<OsString>) -> Option<Role> {
    match name.to_str()? {
        "getty" => Some(Role::Getty(rest)),
        "login" => Some(Role::Login(rest)),
        _ => None,
    }
}

/// The names by which the whole is called: its own, and what `/proc/self/exe` makes of it.
const OWN_NAMES: [&str; 2] = ["octant", "exe"];

/// What this process is to be.
#[derive(Debug)]
pub(crate) enum Role {
    /// A utility; the first argument is its name.
    Utility { applet: &'static Applet, arguments: Vec<OsString>, invocation: Invocation },
    /// The shell; the first argument is its name.
    Shell(Vec<OsString>),
    /// PID 1, with the arguments that are meant for it.
    Init(Vec<OsString>),
    /// PID 1 in namespaces of its own, with the arguments.
    Up(Vec<OsString>),
    /// A program in a workstation, without anything else, with the arguments.
    Run(Vec<OsString>),
    /// The service of this name.
    Service(OsString),
    /// The process that makes workstations.
    Spawner,
    /// The process that writes logs.
    LogWriter,
    /// What PID 1 has looked for a machine's configuration by.
    ConfigTaker(Vec<OsString>),
    /// Logins at a terminal, one after the other, with the arguments.
    Getty(Vec<OsString>),
    /// One login, or a change of accounts, with the arguments.
    Login(Vec<OsString>),
    /// The list of names, with or without their texts.
    List(bool),
    /// The operator's command line; the first argument is the program's name.
    Operator(Vec<OsString>),
    /// Something that exists and is not granted here.
    NotGranted(OsString),
    /// Something that does not exist.
    Unknown(OsString),
}

/// Decides: first by the name of the call, exactly; then by the first argument.
pub(crate) fn decide(arguments: Vec<OsString>, first: bool, granted: &Granted) -> Role {
    let called = arguments.first().cloned().unwrap_or_default();
    let name = Path::new(&called).file_name().unwrap_or_default().to_owned();
    let roles = *granted == Granted::All;
    if name == INIT && roles {
        // A replacement of PID 1 keeps the name and says what it is as well.
        let said = usize::from(arguments.get(1).is_some_and(|next| next == INIT));
        return Role::Init(arguments.into_iter().skip(1 + said).collect());
    }
    if OWN_NAMES.iter().any(|own| name == *own) {
        if first && roles && arguments.len() == 1 {
            return Role::Init(Vec::new());
        }
        return by_argument(arguments, granted);
    }
    if let Some(role) = utility(&name, &arguments, Invocation::ByName, granted) {
        return role;
    }
    if roles && let Some(role) = console(&name, arguments.iter().skip(1).cloned().collect()) {
        return role;
    }
    if BY_NAME.iter().any(|(command, _)| name == *command) {
        let line = [OsString::from("octant"), name.clone()].into_iter().chain(arguments.into_iter().skip(1));
        return operator(&name, line.collect(), granted);
    }
    missing(called, &name, granted)
}

/// `octant NAME ...`.
fn by_argument(arguments: Vec<OsString>, granted: &Granted) -> Role {
    let Some(name) = arguments.get(1).cloned() else {
        return operator(OsStr::new(""), arguments, granted);
    };
    let command = *granted == Granted::All && COMMANDS_FIRST.iter().any(|command| name == *command);
    if !command && let Some(role) = utility(&name, &arguments[1..], Invocation::ByArgument, granted) {
        return role;
    }
    if *granted == Granted::All
        && let Some(role) = console(&name, arguments[2..].to_vec())
    {
        return role;
    }
    match name.to_str() {
        Some("shell") if granted.utility(SHELL) => Role::Shell(arguments[1..].to_vec()),
        Some(INIT) if *granted == Granted::All => Role::Init(arguments[2..].to_vec()),
        Some("up") if *granted == Granted::All => Role::Up(arguments[2..].to_vec()),
        Some("run") if *granted == Granted::All => Role::Run(arguments[2..].to_vec()),
        Some("svc") if *granted == Granted::All && arguments.len() == 3 => {
            Role::Service(arguments[2].clone())
        }
        Some("spawner") if *granted == Granted::All => Role::Spawner,
        Some("config-taker") if *granted == Granted::All => Role::ConfigTaker(arguments[2..].to_vec()),
        Some("log-writer") if *granted == Granted::All => Role::LogWriter,
        Some("--list") if granted.command(&name) => {
            Role::List(arguments.get(2).is_some_and(|next| next == "--about"))
        }
        Some(option) if option.starts_with('-') => operator(&name, arguments, granted),
        Some(command) if octant_cli::command().find_subcommand(command).is_some() => {
            operator(&name, arguments, granted)
        }
        _ => missing(name.clone(), &name, granted),
    }
}

/// What is not here. A manifest that grants a name that nothing has is told so, and not that it does not grant it.
fn missing(called: OsString, name: &OsStr, granted: &Granted) -> Role {
    let known = name.to_str().is_some_and(|name| granted.utility(name));
    if known { Role::Unknown(called) } else { Role::NotGranted(called) }
}

fn utility(name: &OsStr, arguments: &[OsString], invocation: Invocation, granted: &Granted) -> Option<Role> {
    // login(1) marks a login shell by a dash.
    let plain = if invocation == Invocation::ByName && name == "-sh" { OsStr::new(SHELL) } else { name };
    let applet = find(plain);
    if applet.is_none() && plain != SHELL {
        return None;
    }
    if !plain.to_str().is_some_and(|plain| granted.utility(plain)) {
        return Some(Role::NotGranted(name.to_owned()));
    }
    let arguments = arguments.to_vec();
    Some(match applet {
        Some(applet) => Role::Utility { applet, arguments, invocation },
        None => Role::Shell(arguments),
    })
}

fn operator(name: &OsStr, arguments: Vec<OsString>, granted: &Granted) -> Role {
    if granted.command(name) { Role::Operator(arguments) } else { Role::NotGranted(name.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use octant_applets::APPLETS;

    /// The role of a command line, in short.
    fn role(line: &[&str], granted: &Granted) -> String {
        role_of(line, false, granted)
    }

    fn role_of(line: &[&str], first: bool, granted: &Granted) -> String {
        let texts = |arguments: &[OsString]| {
            arguments.iter().map(|text| text.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        match decide(line.iter().map(OsString::from).collect(), first, granted) {
            Role::Utility { applet, arguments, .. } => format!("{}: {}", applet.name, texts(&arguments)),
            Role::Shell(arguments) => format!("shell: {}", texts(&arguments)),
            Role::Init(arguments) => format!("init: {}", texts(&arguments)),
            Role::Up(arguments) => format!("up: {}", texts(&arguments)),
            Role::Run(arguments) => format!("run: {}", texts(&arguments)),
            Role::Service(name) => format!("service: {}", name.display()),
            Role::Spawner => "spawner".into(),
            Role::LogWriter => "log-writer".into(),
            Role::ConfigTaker(arguments) => format!("config-taker: {}", texts(&arguments)),
            Role::Getty(arguments) => format!("getty: {}", texts(&arguments)),
            Role::Login(arguments) => format!("login: {}", texts(&arguments)),
            Role::List(about) => format!("list {about}"),
            Role::Operator(arguments) => format!("operator: {}", texts(&arguments)),
            Role::NotGranted(_) => "not granted".into(),
            Role::Unknown(_) => "unknown".into(),
        }
    }

    #[test]
    fn a_call_by_name_is_that_utility() {
        let all = &Granted::All;
        assert_eq!(role(&["/bin/ls", "-l"], all), "ls: /bin/ls -l");
        assert_eq!(role(&["[", "1", "]"], all), "[: [ 1 ]");
        assert_eq!(role(&["octant", "ls", "-l"], all), "ls: ls -l");
        assert_eq!(role(&["/proc/self/exe", "sh", "-c", "x"], all), "shell: sh -c x");
        assert_eq!(role(&["-sh"], all), "shell: -sh");
        assert_eq!(role(&["/octant", "shell"], all), "shell: shell");
    }

    #[test]
    fn a_name_that_both_have_is_the_operators_only_behind_octant() {
        let some = &Granted::Only(vec!["top".into()]);
        assert_eq!(role(&["top"], &Granted::All), "top: top");
        assert_eq!(role(&["octant", "top", "--json"], &Granted::All), "operator: octant top --json");
        assert_eq!(role(&["octant", "top"], some), "top: top");
        assert_eq!(role(&["octant", "top"], &Granted::Only(Vec::new())), "not granted");
    }

    #[test]
    fn a_name_is_exact() {
        for name in ["evil-ls", "ls2", "LS", "ls.exe", "octant-ls", "octant2", "myinit", "", "-ls", "ssh"] {
            assert_eq!(role(&[name], &Granted::All), "unknown", "{name:?}");
            assert_eq!(role(&[name, "ls"], &Granted::All), "unknown", "{name:?} ls");
        }
        for name in ["evil-ls", "ls2", "LS", "../ls", "/bin/ls"] {
            assert_eq!(role(&["octant", name], &Granted::All), "unknown", "octant {name:?}");
        }
    }

    #[test]
    fn what_is_no_utility_is_the_operators() {
        let all = &Granted::All;
        assert_eq!(role(&["octant", "status"], all), "operator: octant status");
        assert_eq!(role(&["octant", "--dir", "x", "status"], all), "operator: octant --dir x status");
        assert_eq!(role(&["octant"], all), "operator: octant");
        assert_eq!(role(&["/bin/poweroff", "--json"], all), "operator: octant poweroff --json");
        assert_eq!(role(&["octant", "--list"], all), "list false");
    }

    #[test]
    fn the_first_process_is_pid_1() {
        let all = &Granted::All;
        assert_eq!(role_of(&["/init"], true, all), "init: ");
        assert_eq!(role_of(&["/octant"], true, all), "init: ");
        assert_eq!(role_of(&["octant"], false, all), "operator: octant");
        // The kernel adds what it did not understand of its own command line; PID 1 knows that.
        assert_eq!(role_of(&["/init", "splash", "single"], true, all), "init: splash single");
        assert_eq!(role_of(&["/init", "init", "--resume", "9"], true, all), "init: --resume 9");
        assert_eq!(role_of(&["/octant", "init", "--mode", "container"], true, all), "init: --mode container");
        assert_eq!(role_of(&["/octant", "ls"], true, all), "ls: ls");
        assert_eq!(role_of(&["/octant", "nonsense"], true, all), "unknown");
    }

    #[test]
    fn roles_are_reached_by_their_names() {
        let all = &Granted::All;
        assert_eq!(role(&["octant", "up", "--dir", "x"], all), "up: --dir x");
        assert_eq!(role(&["octant", "run", "--", "ls", "-l"], all), "run: -- ls -l");
        assert_eq!(role(&["exe", "svc", "ledger"], all), "service: ledger");
        assert_eq!(role(&["exe", "svc"], all), "unknown");
        assert_eq!(role(&["exe", "spawner"], all), "spawner");
        assert_eq!(role(&["octant", "config-taker", "smbios"], all), "config-taker: smbios");
        assert_eq!(role(&["/bin/getty", "/dev/tty2"], all), "getty: /dev/tty2");
        assert_eq!(role(&["octant", "login", "--list"], all), "login: --list");
    }

    #[test]
    fn in_a_workstation_only_what_is_granted_runs() {
        let some = &Granted::Only(vec!["ls".into(), "sh".into(), "poweroff".into(), "status".into()]);
        assert_eq!(role(&["ls"], some), "ls: ls");
        assert_eq!(role(&["octant", "ls"], some), "ls: ls");
        assert_eq!(role(&["sh"], some), "shell: sh");
        // Granted, and nothing here has that name.
        let wget = &Granted::Only(vec!["wget".into()]);
        assert_eq!(
            (role(&["wget"], wget), role(&["octant", "wget"], wget)),
            ("unknown".into(), "unknown".into())
        );
        assert_eq!(role(&["octant", "note", "x"], some), "operator: octant note x");
        assert_eq!(role(&["octant", "workspace", "snapshot"], some), "operator: octant workspace snapshot");
        assert_eq!(role(&["octant", "self"], some), "operator: octant self");
        assert_eq!(role(&["octant", "secret", "get", "a"], some), "operator: octant secret get a");
        let refused: &[&[&str]] = &[
            &["cat"],
            &["octant", "cat"],
            &["octant"],
            &["octant", "status"],
            &["octant", "vault", "list"],
            &["secret", "get", "a"],
            &["octant", "--list"],
            &["octant", "--help"],
            &["octant", "--dir", "/", "note", "x"],
            &["octant", "init"],
            &["octant", "spawner"],
            &["octant", "log-writer"],
            &["octant", "config-taker", "smbios"],
            &["octant", "svc", "ledger"],
            &["octant", "up"],
            &["octant", "run", "ls"],
            &["poweroff"],
            &["login"],
            &["octant", "getty"],
            &["init"],
        ];
        for line in refused {
            assert_eq!(role(line, some), "not granted", "{line:?}");
        }
        let none = &Granted::Only(Vec::new());
        for applet in APPLETS {
            assert_eq!(role(&[applet.name], none), "not granted", "{}", applet.name);
        }
        assert_eq!(role(&["-sh"], none), "not granted");
        assert_eq!(role(&["octant", "shell"], none), "not granted");
    }

    #[test]
    fn no_command_of_the_operator_has_a_utilitys_name() {
        for command in octant_cli::command().get_subcommands() {
            let name = command.get_name();
            let both = COMMANDS_FIRST.contains(&name);
            assert_eq!(find(OsStr::new(name)).is_some(), both, "{name}");
            assert!(name != SHELL && name != INIT, "{name}");
        }
        for (name, _) in CONSOLE {
            assert!(
                find(OsStr::new(name)).is_none() && octant_cli::command().find_subcommand(name).is_none()
            );
        }
        for (name, _) in BY_NAME {
            assert!(octant_cli::command().find_subcommand(name).is_some(), "{name}");
        }
    }
}
