//! A machine measures what it boots: the registers of its TPM say which kernel image it was, and how it was started.

use crate::boot::with_data;
use octant_tests::environment::Scratch;
use octant_tests::guest::{Boot, Guest};
use octant_tests::uefi::{self, Board};

/// Shows the registers, the machine's UUID, its command line and the TPM's device, each on a line with its name.
const JOB: &str = "octant.job=\
    for%20r%20in%204%207%2011%2012;%20do%20echo%20pcr-$r%20$(cat%20/sys/class/tpm/tpm0/pcr-sha256/$r);%20done;\
    %20echo%20uuid%20$(cat%20/sys/class/dmi/id/product_uuid);\
    %20echo%20line%20$(cat%20/proc/cmdline);\
    %20ls%20/dev/tpmrm0";
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
    let boot = |append| evidence(&scratch, Boot { append, board: Some(&board), ..Boot::default() });
    let first = boot(JOB);
    assert_eq!(first.uuid, UUID);
    assert_eq!(
        first.pcr_11,
        uefi::pcr_11(&uefi::image(JOB, None)),
        "not what the image's stub should measure"
    );
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
    let outside = format!("console=ttyS0 quiet panic=-1 octant.data=/dev/vda outside {JOB}");
    let boot = |secure_boot| {
        let load_options = Some(outside.as_str());
        evidence(
            &scratch,
            Boot { append: JOB, board: Some(&board), secure_boot, load_options, ..Boot::default() },
        )
    };
    let open = boot(false);
    assert!(open.line.contains(" outside "), "{}", open.line);
    assert_eq!(open.pcr_11, uefi::pcr_11(&uefi::image(JOB, None)));
    assert_ne!(open.pcr_12, NOTHING);

    let secure = boot(true);
    assert!(!secure.line.contains(" outside "), "{}", secure.line);
    assert_eq!(secure.pcr_11, open.pcr_11);
    assert_eq!(secure.pcr_12, NOTHING);
    assert_ne!(secure.pcr_7, open.pcr_7, "secure boot is on");
}
