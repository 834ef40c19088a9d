//! `cargo x test` and `cargo x check`: what must pass before a change is done.

use crate::args::Args;
use crate::build::{self, Profile};
use crate::image::{self, Image, Source};
use crate::packages;
use crate::qemu::{self, Accel};
use crate::sh::{self, Res, Steps};
use crate::workspace::Workspace;
use crate::{firmware, kernel, node, oci, postgres, python, tidy, uki};
use std::path::Path;
use std::process::{Command, ExitCode};

/// The crate with the tests of the whole system.
const SYSTEM: &str = "octant-tests";
/// The variable by which proptest's inputs are chosen.
const SEED: &str = "PROPTEST_RNG_SEED";

/// `cargo x check`.
pub(crate) fn check(workspace: &Workspace, mut args: Args) -> Res<ExitCode> {
    if args.help("cargo x check\n\nFormat, tidy and clippy with warnings denied. Changes nothing.") {
        return Ok(ExitCode::SUCCESS);
    }
    args.finish()?;
    let mut steps = Steps::new(3);
    static_rules(workspace, &mut steps)?;
    println!("\nin order after {}", steps.finish());
    Ok(ExitCode::SUCCESS)
}

/// Three steps: format, tidy, clippy.
fn static_rules(workspace: &Workspace, steps: &mut Steps) -> Res {
    steps.next("format");
    sh::run(workspace.cargo(&["fmt", "--all", "--check"]).stderr(std::process::Stdio::inherit()))
        .map_err(|error| format!("{error}; `cargo fmt` puts it in order"))?;
    steps.next("tidy");
    println!("      {}", tidy::check(workspace)?);
    steps.next("clippy, warnings denied (about 4 min the first time)");
    sh::run(&mut workspace.cargo(&[
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        // The bench too is to build at every commit.
        "--features=octant-tests/bench",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]))
}

/// `cargo x test`.
pub(crate) fn test(workspace: &Workspace, mut args: Args) -> Res<ExitCode> {
    const USAGE: &str = "cargo x test [--system] [-- FILTER...]\n\n\
        Everything that CI runs: format, tidy, clippy, unit, property, golden and documentation tests, simulation,\n\
        then the static binary in a namespace, a container and a virtual machine.\n\n\
        --system    only the last part: what boots\n\
        FILTER      for the last part: run the tests whose names have it\n\n\
        UPDATE=1 cargo x test rewrites golden files; look at the difference before you commit it.";
    if args.help_before_dashes(USAGE) {
        return Ok(ExitCode::SUCCESS);
    }
    let system_only = args.flag("--system");
    let filter = args.rest();
    if let Some(option) = filter.iter().find(|word| word.starts_with("--") && !system_only) {
        return Err(format!("{option:?} is not an option of this command; --help lists them"));
    }
    let mut steps = Steps::new(if system_only { 10 } else { 15 });
    steps.next("looking for system packages");
    packages::ensure(workspace, packages::TEST)?;
    if !system_only {
        static_rules(workspace, &mut steps)?;
        code(workspace, &mut steps)?;
    }
    system(workspace, &mut steps, &filter)?;
    println!("\neverything passed in {}", steps.finish());
    Ok(ExitCode::SUCCESS)
}

/// Two steps: every crate's own tests, the simulation.
fn code(workspace: &Workspace, steps: &mut Steps) -> Res {
    steps.next("unit, property, golden and documentation tests (about 10 min the first time)");
    let words = ["test", "--locked", "--workspace", "--exclude", SYSTEM, "--quiet", "--no-fail-fast"];
    let mut tests = workspace.cargo(&words);
    // One commit, one verdict: property tests draw the same inputs in each run, unless the caller names other ones.
    if std::env::var_os(SEED).is_none() {
        tests.env(SEED, "1");
    }
    sh::run(&mut tests)?;
    steps.next("simulation of the service graph, 1,000 seeds");
    let words = ["run", "--quiet", "--locked", "--package", "octant-sim", "--", "--seeds", "1000"];
    sh::run(&mut workspace.cargo(&words))
}

/// Nine steps: the independent programs, binary, helpers, kernel, firmware, PostgreSQL, images, KVM, the tests of the whole.
fn system(workspace: &Workspace, steps: &mut Steps, filter: &[String]) -> Res {
    steps.next("independent programs in Python and JavaScript: exports, vault files, clients");
    let python = python::environment(workspace)?;
    python::self_test(workspace, &python)?;
    let node = node::clients(workspace)?;
    let source = Source::Built(Profile::Release);
    steps.next(&source.step());
    let binary = source.get(workspace)?;
    steps.next("building the programs that run inside a workstation");
    let helpers = build::helpers(workspace, Profile::Release, "")?;
    let spawn_tests = build::spawn_tests(workspace)?;
    steps.next("fetching the kernel (about 35 MB the first time)");
    let kernel = kernel::fetch(workspace)?;
    steps.next("fetching the firmware (about 6 MB the first time)");
    let firmware = firmware::fetch(workspace)?;
    steps.next("fetching PostgreSQL (about 17 MB the first time)");
    let postgres = postgres::fetch(workspace)?;
    steps.next("packing the image");
    let image = image::make(workspace, &binary, kernel)?;
    oci::make(workspace, &binary)?;
    steps.next("looking for KVM");
    let accel = Accel::choose(workspace, &image.kernel)?;
    println!("      {}", accel.name());
    steps.next("namespace, container and virtual machine tests");
    let mut command = workspace.cargo(&["test", "--locked", "--package", SYSTEM, "--no-fail-fast", "--"]);
    command
        .args(filter)
        .env("OCTANT_PYTHON", python)
        .env("OCTANT_NODE_CLIENTS", node)
        .env("OCTANT_SPAWN_TESTS", spawn_tests)
        .env("OCTANT_FIRMWARE", &firmware.ovmf)
        .env("OCTANT_STUB", &firmware.stub)
        .env("OCTANT_POSTGRES", postgres)
        .env("OCTANT_INITRD_PACKED", uki::packed_initrd(&image.initrd)?);
    environment(workspace, &mut command, &binary, &helpers, Some((&image, accel)))?;
    sh::run(&mut command)
}

/// Tells a test or bench where everything is. image/README.md has the list.
pub(crate) fn environment(
    workspace: &Workspace,
    command: &mut Command,
    binary: &Path,
    helpers: &Path,
    machine: Option<(&Image, Accel)>,
) -> Res {
    command
        .env("OCTANT_ROOT", &workspace.root)
        .env("OCTANT_BIN", binary)
        .env("OCTANT_HELPERS", helpers)
        .env("OCTANT_OPERATOR_KEY", image::operator_key(workspace, binary)?)
        .env("OCTANT_OCI", oci::layout(workspace))
        .env("OCTANT_BUNDLE", oci::bundle(workspace));
    if let Some((image, accel)) = machine {
        let qemu = sh::which(qemu::QEMU).ok_or_else(|| format!("{} is not on PATH", qemu::QEMU))?;
        command
            .env("OCTANT_KERNEL", &image.kernel.vmlinuz)
            .env("OCTANT_INITRD", &image.initrd)
            .env("OCTANT_DATA", &image.data)
            .env("OCTANT_QEMU", qemu)
            .env("OCTANT_ACCEL", accel.name());
    }
    Ok(())
}
