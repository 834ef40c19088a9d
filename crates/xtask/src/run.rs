//! `cargo x run`: from a clone to a running system.

use crate::args::Args;
use crate::image::{self, Image, Source};
use crate::qemu::{self, Accel, Machine, Phase};
use crate::sh::{self, Res, Steps};
use crate::workspace::Workspace;
use crate::{elsewhere, mkosi, packages};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

/// What runs where nobody is at the terminal: an agent that reads two logs and writes a report.
pub(crate) const EXAMPLE: &str = "sh /usr/share/octant/examples/incident-report/run.sh";

const USAGE: &str = "cargo x run [OPTIONS]

Boots Octant in QEMU. On a terminal you get its console with a shell; leave with `poweroff`, or with
Ctrl-A and then X. Without a terminal, or with --job, it runs a job, powers off, and exits with the job's code.

  --job COMMAND    run this in the shell once every service is ready; the default without a terminal is
                   the incident-report example
  --fresh          begin with an empty data disk; otherwise what was written last time is there
  --dist           boot the binary that is shipped rather than the quick one
  --bin FILE       boot this binary
  --mkosi          boot the initrd that mkosi packed
  --overlay FILE   unpack this cpio archive over the image
  --append WORDS   add to the kernel's command line
  --timeout S      kill a job's machine after S seconds [300]
  --memory MIB     [1024]
  --cpus N         [2]

Without a virtual machine:
  --pidns          `octant up` in a PID namespace of this machine
  --container      a container with one file in it, by crun";

/// `cargo x run`.
pub(crate) fn main(workspace: &Workspace, mut args: Args) -> Res<ExitCode> {
    if args.help(USAGE) {
        return Ok(ExitCode::SUCCESS);
    }
    let (pidns, container) = (args.flag("--pidns"), args.flag("--container"));
    let job = args.value("--job")?;
    if pidns || container {
        let source = Source::from_args(&mut args)?;
        args.finish()?;
        let elsewhere = if pidns { elsewhere::pidns } else { elsewhere::container };
        return elsewhere(workspace, &source, job);
    }
    in_machine(workspace, args, job)
}

/// What stays the same whoever boots.
struct Options {
    fresh: bool,
    mkosi: bool,
    overlay: Option<PathBuf>,
    append: String,
    limit: Duration,
    memory_mib: u64,
    cpus: u64,
}

fn in_machine(workspace: &Workspace, mut args: Args, job: Option<String>) -> Res<ExitCode> {
    let source = Source::from_args(&mut args)?;
    let options = Options {
        fresh: args.flag("--fresh"),
        mkosi: args.flag("--mkosi"),
        overlay: args.value("--overlay")?.map(PathBuf::from),
        append: args.value("--append")?.unwrap_or_default(),
        limit: Duration::from_secs(args.number("--timeout", 300)?),
        memory_mib: args.number("--memory", 1024)?,
        cpus: args.number("--cpus", 2)?,
    };
    args.finish()?;
    let mut steps = Steps::new(6);
    let mut image = image::prepare(workspace, &source, packages::BOOT, &mut steps)?;
    if options.mkosi {
        image.initrd = mkosi::initrd(workspace, &source)?;
    }
    steps.next("the data disk");
    let machine = machine(workspace, image, &options)?;
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let pace = if machine.accel == Accel::Kvm {
        "KVM"
    } else {
        "TCG, since KVM does not run here: about 10 s to the prompt"
    };
    steps.next(&format!("booting kernel {} ({pace})", machine.kernel.release));
    match job {
        None if terminal => interactive(machine),
        job => unattended(workspace, machine, job.as_deref().unwrap_or(EXAMPLE), options.limit),
    }
}

fn machine(workspace: &Workspace, image: Image, options: &Options) -> Res<Machine> {
    let dir = workspace.target.join("run");
    let data = dir.join("data.ext4");
    if options.fresh || !data.is_file() {
        copy_sparse(&image.data, &data)?;
        println!("      new: {}", data.display());
    } else {
        println!("      as the last boot left it (--fresh for an empty one): {}", data.display());
    }
    let initrd = match &options.overlay {
        None => image.initrd,
        Some(overlay) => {
            let joined = dir.join("octant-overlay.cpio");
            sh::write(&joined, with_overlay(sh::read(&image.initrd)?, &sh::read(overlay)?))?;
            joined
        }
    };
    let accel = Accel::choose(workspace, &image.kernel)?;
    let Options { memory_mib, cpus, .. } = *options;
    Ok(Machine {
        kernel: image.kernel,
        initrd,
        data,
        accel,
        memory_mib,
        cpus,
        append: options.append.clone(),
    })
}

/// Two archives as one initrd. The kernel looks for the next one only at a multiple of four, and skips zeros up to
/// there; a compressed archive may end anywhere.
fn with_overlay(mut initrd: Vec<u8>, overlay: &[u8]) -> Vec<u8> {
    initrd.resize(initrd.len().next_multiple_of(4), 0);
    initrd.extend_from_slice(overlay);
    initrd
}

/// Copies a disk without writing its holes.
pub(crate) fn copy_sparse(from: &Path, to: &Path) -> Res {
    if let Some(parent) = to.parent() {
        sh::make_dir(parent)?;
    }
    sh::output(Command::new("cp").arg("--sparse=always").arg("--").arg(from).arg(to)).map(drop)
}

fn interactive(mut machine: Machine) -> Res<ExitCode> {
    println!("\n      leave with `poweroff`, or Ctrl-A and then X\n");
    machine.append = format!("quiet octant.console=shell {}", machine.append);
    sh::run(&mut machine.command("mon:stdio"))?;
    println!("\nthe machine is off. {}", what_next());
    Ok(ExitCode::SUCCESS)
}

fn unattended(workspace: &Workspace, mut machine: Machine, job: &str, limit: Duration) -> Res<ExitCode> {
    machine.append = format!("{} octant.job={}", machine.append, qemu::encoded(job)?);
    println!("      job: {job}");
    let log = workspace.target.join("run/console.log");
    let started = sh::now();
    let outcome = qemu::watch(&machine, limit, &log)?;
    let took = sh::human(started.elapsed());
    match (outcome.phase, outcome.killed) {
        (Phase::JobEnded(0), false) => {
            println!("\nthe job ended well, and the machine is off after {took}. {}", what_next());
            Ok(ExitCode::SUCCESS)
        }
        (Phase::JobEnded(code), false) => {
            eprintln!(
                "\nthe job ended with exit code {code} after {took}; the whole console is in {}",
                log.display()
            );
            Ok(ExitCode::from(code))
        }
        (phase, killed) => {
            let how = if killed {
                format!("did not end within {}", sh::human(limit))
            } else {
                "ended without an exit code of its job".into()
            };
            let last = sh::tail(&sh::read(&log)?, 40);
            Err(format!(
                "the machine {how}. When it stopped: {}.\nThe end of {}:\n{last}",
                phase.shown(),
                log.display()
            ))
        }
    }
}

fn what_next() -> &'static str {
    "To try next:\n\
     \n  cargo x run --job 'octant doctor; octant status; octant ledger tail'\
     \n  cargo x run --pidns            the same system in a PID namespace, without a virtual machine\
     \n  cargo x test                   everything that CI runs"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_begins_where_the_kernel_looks_for_it() {
        assert_eq!(with_overlay(b"abcde".to_vec(), b"xy"), b"abcde\0\0\0xy");
        assert_eq!(with_overlay(b"abcd".to_vec(), b"xy"), b"abcdxy");
    }
}
