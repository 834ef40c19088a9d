//! `cargo x bench` and `cargo x sim`: programs of other crates, built and given what they need.

use crate::args::Args;
use crate::build::{self, Profile};
use crate::elsewhere::exit_code;
use crate::image;
use crate::packages;
use crate::peers;
use crate::qemu::Accel;
use crate::sh::{Res, Steps};
use crate::suite;
use crate::workspace::Workspace;
use std::process::{Command, ExitCode};

/// `cargo x bench`.
pub(crate) fn main(workspace: &Workspace, mut args: Args) -> Res<ExitCode> {
    const USAGE: &str = "cargo x bench [ledger|crypto|vault|egress|router|shell|workstations]\n\n\
        Measures what docs/specification.md promises, with the binary that is shipped.\n\
        `cargo x bench ledger` measures the ledger alone, `cargo x bench crypto` seals and passphrases,\n\
        `cargo x bench vault` the vault, `cargo x bench egress` the gate and two proxies of others beside it,\n\
         `cargo x bench router` the router beside two gateways of others,\n\
         `cargo x bench shell` the shell beside others, `cargo x bench status` the operator's commands,\n\
         `cargo x bench workstations` spawn, kill and a thousand agents at once,\n\
         `cargo x bench utilities` their start and a large file beside GNU's;\n\
        their rows alone are measured and replaced, and no machine is booted for them.";
    if args.help_before_dashes(USAGE) {
        return Ok(ExitCode::SUCCESS);
    }
    let part = args.rest();
    let mut steps = Steps::new(if part.is_empty() { 6 } else { 3 });
    let machine = if part.is_empty() {
        let source = image::Source::Built(Profile::Dist);
        let image = image::prepare(workspace, &source, packages::BENCH, &mut steps)?;
        let accel = Accel::choose(workspace, &image.kernel)?;
        Some((image, accel))
    } else {
        packages::ensure(workspace, packages::BENCH)?;
        steps.next(&format!("building the binary ({})", Profile::Dist.first_time()));
        None
    };
    let binary = build::octant(workspace, Profile::Dist)?;
    steps.next("building the measuring programs");
    let helpers = build::helpers(workspace, Profile::Dist, "bench")?;
    steps.next("measuring");
    let mut command = Command::new(helpers.join("octant-bench"));
    command.args(&part).current_dir(&workspace.root);
    let machine = machine.as_ref().map(|(image, accel)| (image, *accel));
    suite::environment(workspace, &mut command, &binary, &helpers, machine)?;
    command.envs(peers::install(workspace, part.first().map(String::as_str)));
    let status = command.status().map_err(|error| format!("octant-bench could not be started: {error}"))?;
    Ok(exit_code(status))
}

/// `cargo x sim`.
pub(crate) fn sim(workspace: &Workspace, args: Args) -> Res<ExitCode> {
    let mut command = workspace.cargo(&["run", "--quiet", "--locked", "--package", "octant-sim", "--"]);
    let status =
        command.args(args.rest()).status().map_err(|error| format!("cargo could not be started: {error}"))?;
    Ok(exit_code(status))
}
