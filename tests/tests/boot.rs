//! The boot-to-health gate and what else needs a whole machine.

use crate::{exports, image};
use octant_tests::disk;
use octant_tests::environment::{Scratch, path};
use octant_tests::guest::{Boot, Guest};
use std::path::{Path, PathBuf};

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

#[test]
fn the_gate_passes_from_boot_to_health() {
    let scratch = Scratch::new("gate");
    let overlay = image::overlay(&scratch);
    let log = run_job(&scratch, "octant.job=sh%20/srv/test/gate.sh", Some(&overlay), 600);
    let text = log.join("\n");
    let is = |prefix: &str| log.iter().filter(|line| line.starts_with(prefix)).count();
    let plan = log.iter().find_map(|line| line.strip_prefix("1..")?.trim().parse::<usize>().ok());
    assert_eq!(is("not ok "), 0, "{text}");
    assert_eq!(plan, Some(is("ok ")), "the plan was not carried out whole:\n{text}");
    assert!(log.iter().any(|line| line.contains("octant: job exit 0")), "{text}");
    what_left_the_machine_verifies_here(&scratch);
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
