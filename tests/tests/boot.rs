//! The boot-to-health gate and what else needs a whole machine.

use crate::exports;
use octant_tests::agents;
use octant_tests::disk;
use octant_tests::environment::{Scratch, binary, path};
use octant_tests::guest::{Boot, Guest};
use std::path::{Path, PathBuf};
use std::process::Command;

fn data(scratch: &Scratch) -> PathBuf {
    scratch.path("data.ext4")
}

/// A data disk for one guest, new.
pub(crate) fn with_data(scratch: &Scratch) -> (String, &'static str) {
    let data = data(scratch);
    std::fs::copy(path("OCTANT_DATA"), &data).unwrap_or_else(|e| panic!("{}: {e}", data.display()));
    (data.display().to_string(), "raw")
}

/// Boots with a job and returns the console when the machine has powered off.
fn run_job(scratch: &Scratch, append: &str, overlay: Option<&Path>, seconds: u64) -> Vec<String> {
    let boot = Boot { append, overlay, data: Some(with_data(scratch)), ..Boot::default() };
    let mut guest = Guest::boot(&scratch.path(""), &boot);
    guest.until("the job's end", seconds, |line| line.contains("octant: job exit "));
    guest.until_off(60);
    std::mem::take(&mut guest.log)
}

/// Runs a script of the guest that prints TAP: its whole plan is carried out and nothing of it fails.
fn passes(scratch: &Scratch, script: &str, seconds: u64) -> Vec<String> {
    let overlay = agents::overlay(scratch);
    let log = run_job(scratch, &format!("octant.job=sh%20/srv/test/{script}"), Some(&overlay), seconds);
    let text = log.join("\n");
    let is = |prefix: &str| log.iter().filter(|line| line.starts_with(prefix)).count();
    let plan = log.iter().find_map(|line| line.strip_prefix("1..")?.trim().parse::<usize>().ok());
    assert_eq!(is("not ok "), 0, "{text}");
    assert_eq!(plan, Some(is("ok ")), "the plan was not carried out whole:\n{text}");
    assert!(log.iter().any(|line| line.contains("octant: job exit 0")), "{text}");
    log
}

#[test]
fn the_gate_passes_from_boot_to_health() {
    let scratch = Scratch::new("gate");
    passes(&scratch, "gate.sh", 600);
    what_left_the_machine_verifies_here(&scratch);
}

/// Fork bomb, memory bombs, full disk, descriptors, busy loops: what the neighbour felt is printed, and judged by nobody
/// but the reader. That its work never fails, and that each bomb is held, is.
#[test]
fn a_neighbour_works_on_beside_agents_that_take_all_they_can_get() {
    let scratch = Scratch::new("bombs");
    let felt = agents::felt(&passes(&scratch, "bombs.sh", 600));
    assert_eq!(felt.len(), 7, "{felt:?}");
    felt.iter().for_each(|felt| println!("{felt:?}"));
}

/// The tests of the spawner as the first process of a machine: every property of a workstation where the limits are real.
#[test]
fn workstations_hold_on_a_machine_with_every_controller() {
    let scratch = Scratch::new("spawn");
    let program = "opt/octant-spawn-tests";
    let overlay = agents::program_overlay(&scratch, program, &path("OCTANT_SPAWN_TESTS"));
    let append = format!("rdinit=/{program}");
    let mut guest =
        Guest::boot(&scratch.path(""), &Boot { append: &append, overlay: Some(&overlay), ..Boot::default() });
    guest.until("the tests' end", 1200, |line| line.starts_with("# the tests ended with "));
    guest.until_off(60);
    let text = guest.log.join("\n");
    let ended =
        guest.log.iter().any(|line| line == "# the tests ended with Ok(ExitStatus(unix_wait_status(0)))");
    assert!(ended, "{text}");
    let is = |prefix: &str| guest.log.iter().filter(|line| line.starts_with(prefix)).count();
    let plan = guest.log.iter().find_map(|line| line.strip_prefix("1..")?.trim().parse::<usize>().ok());
    assert_eq!(plan, Some(is("ok ")), "{text}");
    assert_eq!(is("# skipped: this machine has no "), 0, "the machine has everything:\n{text}");
}

/// What the gate has put on the data disk is judged by programs that know the log's key and nothing else of the guest.
fn what_left_the_machine_verifies_here(scratch: &Scratch) {
    let files = ["all.octant", "agent.octant", "log.pub", "kept.checkpoint"].map(|name| {
        let file = scratch.path(name);
        let bytes = disk::read(&data(scratch), &format!("test/{name}"));
        std::fs::write(&file, bytes).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        file
    });
    let [all, agent, key, kept] = files;
    exports::holds_and_breaks(&all, &key);
    exports::accepted(&all, &key, Some(&kept));
    exports::accepted(&agent, &key, Some(&kept));
    let (tampered, seq) = exports::edited_entry(&agent);
    exports::refused(&tampered, &key, None, Some(seq));
}

#[test]
fn a_failing_job_is_told_by_its_exit_code() {
    let scratch = Scratch::new("job");
    let log = run_job(&scratch, "octant.job=exit%203", None, 120);
    assert!(log.iter().any(|line| line.contains("octant: job exit 3")), "{}", log.join("\n"));
}

#[test]
fn the_power_button_shuts_down_in_order() {
    let scratch = Scratch::new("button");
    let boot = Boot { append: "octant.console=shell", data: Some(with_data(&scratch)), ..Boot::default() };
    let mut guest = Guest::boot(&scratch.path(""), &boot);
    guest.until("every unit ready", 120, |line| line.contains("octant: ready after"));
    guest.monitor("system_powerdown");
    guest.until_off(60);
    let text = guest.log.join("\n");
    assert!(text.contains("power button"), "the console does not say why it shut down:\n{text}");
    assert!(!text.contains("Kernel panic"), "{text}");
}

/// Accounts made in one boot open the console in the next, by passphrase and by key, and the ledger has who came and who did
/// not: everything that is typed and shown goes over the serial line.
#[test]
fn an_account_logs_in_at_the_serial_console() {
    let scratch = Scratch::new("console");
    let data = with_data(&scratch);
    let boot = |append| {
        let boot = Boot { append, data: Some(data.clone()), ..Boot::default() };
        let mut guest = Guest::boot(&scratch.path(""), &boot);
        guest.until("every unit ready", 120, |line| line.contains("octant: ready after"));
        guest
    };
    let mut guest = boot("octant.console=shell");
    // The quotes keep what is awaited out of the echo of what is typed.
    guest.type_line("login --add alice && echo ma''de");
    guest.until("the question", 120, |line| line.contains("nothing is shown while you type"));
    guest.type_line("correct horse");
    guest.type_line("correct horse");
    guest.until("the account", 120, |line| line.trim_end() == "made");
    guest.type_line("login --add bob --key $(octant trust list | grep operator | cut -c -16) && echo ma''de");
    guest.until("the account with a key", 120, |line| line.trim_end() == "made");
    guest.type_line("poweroff");
    guest.until_off(60);
    let mut guest = boot("octant.console=login");
    // The heading may have been shown before everything was ready.
    if !guest.log.iter().any(|line| line.starts_with("Octant on ")) {
        guest.until("the login", 120, |line| line.starts_with("Octant on "));
    }
    for (passphrase, expected) in
        [("wrong horse", "that is not right"), ("correct horse", "ledger: checkpoint of ")]
    {
        guest.type_line("alice");
        guest.type_line(passphrase);
        guest.until(expected, 120, |line| line.contains(expected));
    }
    guest.type_line("octant ledger tail -n 200 | grep -e 'refused: al''ice' -e 'login: al''ice as'");
    guest.until("the refusal on record", 120, |line| line.contains("login refused: alice at ttyS0"));
    guest.until("the login on record", 120, |line| line.contains("login: alice as user 0 at ttyS0"));
    guest.type_line("exit");
    logs_in_by_key(&mut guest);
    guest.type_line("octant ledger tail -n 5 | grep -e 'answered by key' -e 'login: bo''b as'");
    guest.until("the key on record", 120, |line| line.contains("challenge answered by key "));
    guest.until("the login by key on record", 120, |line| line.contains("login: bob as user 0 at ttyS0"));
    guest.type_line("poweroff");
    guest.until_off(60);
    let text = guest.log.join("\n");
    assert!(
        !text.contains("correct horse") && !text.contains("wrong horse"),
        "a passphrase is shown:\n{text}"
    );
}

/// The challenge is carried to where the key is, and the answer back.
fn logs_in_by_key(guest: &mut Guest) {
    guest.sees("octant login: ", 120);
    guest.type_line("bob");
    guest.sees("passphrase (Enter for a key): ", 120);
    guest.type_line("");
    guest.sees("octant account answer --key FILE", 120);
    let challenge = guest.until("the challenge", 120, |line| line.starts_with("login1:"));
    assert!(challenge.contains(":ttyS0:bob:"), "{challenge}");
    let answered = Command::new(binary())
        .args(["account", "answer", &challenge, "--key"])
        .arg(path("OCTANT_OPERATOR_KEY"))
        .output()
        .unwrap_or_else(|e| panic!("account answer: {e}"));
    assert!(answered.status.success(), "{}", String::from_utf8_lossy(&answered.stderr));
    guest.type_line(String::from_utf8_lossy(&answered.stdout).trim_end());
    guest.until("the message of the day", 120, |line| line.contains("ledger: checkpoint of "));
}

#[test]
fn without_its_data_disk_the_machine_says_why_and_stops() {
    let scratch = Scratch::new("nodisk");
    let boot = Boot { append: "octant.job=true", ..Boot::default() };
    let mut guest = Guest::boot(&scratch.path(""), &boot);
    guest.until("the emergency", 120, |line| line.contains("/dev/vda"));
    guest.until_off(60);
    let text = guest.log.join("\n");
    assert!(text.to_lowercase().contains("emergency"), "{text}");
    assert!(!text.contains("Kernel panic"), "{text}");
}

/// Agents of the loop with the double as their model: a task of five steps to its result, and one that is cut at its budget.
#[test]
fn agents_work_with_a_model_and_are_cut_at_their_budgets() {
    let scratch = Scratch::new("models");
    passes(&scratch, "models.sh", 600);
}
