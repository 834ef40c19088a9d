//! A machine measures what it boots: the registers of its TPM say which kernel image it was, and how it was started.

use crate::boot::with_data;
use octant_tests::cpio::Cpio;
use octant_tests::environment::Scratch;
use octant_tests::guest::{Boot, Guest};
use octant_tests::uefi::{self, Board};
use std::path::PathBuf;

/// Shows the registers, the machine's UUID, its command line and the TPM's device, each on a line with its name.
const JOB: &str = "octant.job=sh%20/srv/test/measured.sh";
const UUID: &str = "0c7a4701-0000-4000-8000-000000000001";
/// A register that nothing was measured into.
const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What a boot has shown.
#[derive(Debug, PartialEq, Eq)]
struct Evidence {
    /// The boot manager's: the firmware measures the kernel image as a file.
    pcr_4: String,
    /// The state of secure boot.
    pcr_7: String,
    /// The kernel image: its stub measures each part.
    pcr_11: String,
    /// What the image was given besides: another command line.
    pcr_12: String,
    uuid: String,
    /// The command line that the kernel has seen.
    line: String,
}

/// The script alone: what is added to the image is hashed several times at each boot.
fn overlay(scratch: &Scratch) -> PathBuf {
    let mut archive = Cpio::default();
    ["srv", "srv/test"].iter().for_each(|dir| archive.directory(dir));
    archive.file("srv/test/measured.sh", 0o755, include_bytes!("../guest/measured.sh"));
    let file = scratch.path("overlay.cpio");
    std::fs::write(&file, archive.finish()).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    file
}

/// Boots a new disk as `boot` says and reads what the job shows.
fn evidence(scratch: &Scratch, boot: Boot<'_>) -> Evidence {
    let mut guest = Guest::boot(&scratch.path(""), &Boot { data: Some(with_data(scratch)), ..boot });
    guest.until("every unit ready", 300, |line| line.contains("octant: ready after"));
    let ready_ms = guest.age_ns() / 1_000_000;
    guest.until("the job's end", 60, |line| line.contains("octant: job exit "));
    guest.until_off(60);
    println!("firmware, kernel image and every unit ready after {ready_ms} ms");
    let log = guest.log.join("\n");
    assert!(log.contains("octant: job exit 0"), "{log}");
    assert!(guest.log.iter().any(|line| line == "/dev/tpmrm0"), "{log}");
    let value = |name: &str| {
        let found = guest.log.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        found.map(str::to_owned).unwrap_or_else(|| panic!("the job shows no {name}:\n{log}"))
    };
    Evidence {
        pcr_4: value("pcr-4"),
        pcr_7: value("pcr-7"),
        pcr_11: value("pcr-11"),
        pcr_12: value("pcr-12"),
        uuid: value("uuid"),
        line: value("line"),
    }
}

#[test]
fn the_same_image_gives_the_same_registers_and_another_one_others() {
    let scratch = Scratch::new("measured");
    let board = Board::new(scratch.path("board"), UUID);
    let overlay = overlay(&scratch);
    let boot = |append| {
        let boot = Boot { append, overlay: Some(&overlay), board: Some(&board), ..Boot::default() };
        evidence(&scratch, boot)
    };
    let first = boot(JOB);
    assert_eq!(first.uuid, UUID);
    let expected = uefi::pcr_11(&uefi::image(JOB, Some(&overlay)));
    assert_eq!(first.pcr_11, expected, "not what the image's stub should measure");
    assert_ne!(first.pcr_7, NOTHING);
    assert_eq!(first.pcr_12, NOTHING);
    assert_eq!(boot(JOB), first, "the same machine and image");

    let other = boot(&format!("other {JOB}"));
    assert_ne!(other.pcr_11, first.pcr_11);
    assert_ne!(other.pcr_4, first.pcr_4);
    assert_eq!(other.pcr_7, first.pcr_7, "the state of secure boot is the same");
}

/// What whoever seals to PCR 11 must know: it says which image was started, and not with which command line.
#[test]
fn a_command_line_from_outside_shows_in_pcr_12_alone_and_secure_boot_refuses_it() {
    let scratch = Scratch::new("outside");
    let board = Board::new(scratch.path("board"), UUID);
    let overlay = overlay(&scratch);
    let outside = format!("console=ttyS0 quiet panic=-1 no_timer_check octant.data=/dev/vda outside {JOB}");
    let boot = |secure_boot| {
        let (overlay, load_options) = (Some(overlay.as_path()), Some(outside.as_str()));
        let board = Some(&board);
        evidence(&scratch, Boot { append: JOB, overlay, board, secure_boot, load_options, ..Boot::default() })
    };
    let open = boot(false);
    assert!(open.line.contains(" outside "), "{}", open.line);
    assert_eq!(open.pcr_11, uefi::pcr_11(&uefi::image(JOB, Some(&overlay))));
    assert_ne!(open.pcr_12, NOTHING);

    let secure = boot(true);
    assert!(!secure.line.contains(" outside "), "{}", secure.line);
    assert_eq!(secure.pcr_11, open.pcr_11);
    assert_eq!(secure.pcr_12, NOTHING);
    assert_ne!(secure.pcr_7, open.pcr_7, "secure boot is on");
}
