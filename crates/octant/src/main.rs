//! The one binary.
//!
//! Owns: how the name by which it was called and its first arguments become a role ([`dispatch`]), and which
//! utilities a workstation has ([`granted`]).
//! Promises: names are matched exactly; inside a workstation only what was granted runs.
//! Never: does any work of its own.
#![forbid(unsafe_code)]

mod boot;
mod dispatch;
mod granted;
mod list;

use dispatch::{Role, decide};
use octant_ids::Exit;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

/// POSIX: found, but it may not be run.
const NOT_GRANTED: u8 = 126;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Err(error) = octant_sys::names::from_files_alone() {
        let _nobody_else_to_tell =
            writeln!(io::stderr(), "octant: users and groups cannot be looked up: {error}");
    }
    let first = std::process::id() == 1;
    let role = match granted::Granted::here() {
        Ok(granted) => decide(arguments, first, &granted),
        Err(error) => return refuse(&error.to_string(), first, NOT_GRANTED),
    };
    match role {
        Role::Utility { applet, arguments, invocation } => {
            leave(octant_applets::run(applet, arguments, invocation))
        }
        Role::Shell(arguments) => octant_shell::main(arguments, list::names(), octant_cli::complete).into(),
        Role::List(with_text) => list::print(with_text),
        Role::Operator(arguments) => octant_cli::main_with(
            arguments,
            octant_cli::Links {
                check_config: Some(boot::check_config),
                check_table: Some(boot::check_table),
                verify_record: Some(octant_run::verify),
                boot: boot::BOOT,
            },
        ),
        Role::Init(arguments) => octant_init::main(&arguments, boot::BOOT),
        Role::Up(arguments) => octant_init::up(&arguments),
        Role::Run(arguments) => octant_run::main(&arguments),
        Role::Service(name) => boot::service(&name).unwrap_or_else(|| {
            refuse(&format!("svc {}: no such service", name.display()), first, Exit::NotFound.code())
        }),
        Role::ConfigTaker(arguments) => octant_config::taker(&arguments, boot::check_table).into(),
        Role::Getty(arguments) => octant_console::getty(&arguments).into(),
        Role::Login(arguments) => octant_console::login(&arguments).into(),
        Role::Spawner => octant_workstation::spawner::main(),
        Role::LogWriter => octant_log::main(),
        Role::NotGranted(name) => {
            refuse(&format!("{}: not granted by the manifest", name.display()), first, NOT_GRANTED)
        }
        Role::Unknown(name) => {
            let name = name.display();
            let text = format!("{name}: no such command; octant --help and octant --list show what there is");
            refuse(&text, first, Exit::NoSuchCommand.code())
        }
    }
}

/// Ends the process with a utility's code, as the system would: the low 8 bits of it.
fn leave(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(u8::MAX))
}

/// Says why nothing was run. The first process of a machine has no standard error that anyone reads, only the
/// kernel's log.
fn refuse(text: &str, first: bool, code: u8) -> ExitCode {
    if first && let Ok(mut log) = std::fs::OpenOptions::new().write(true).open("/dev/kmsg") {
        // Standard error is written to as well; between them somebody sees it.
        let _ = writeln!(log, "octant: {text}");
    }
    let _ = writeln!(io::stderr(), "octant: {text}");
    code.into()
}
