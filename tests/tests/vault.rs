//! The vault on machines that it is bound to, and what is left of a secret after its use.

use crate::boot::with_data;
use crate::namespace::{Instance, ended};
use octant_tests::agents;
use octant_tests::environment::{Scratch, binary, path};
use octant_tests::guest::{Boot, Guest};
use octant_tests::uefi::Board;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const HERE: &str = "0c7a4701-0000-4000-8000-00000000000a";
const THERE: &str = "0c7a4701-0000-4000-8000-00000000000b";
const JOB: &str = "octant.job=sh%20/srv/test/vault.sh";

/// Boots a machine with this disk and gives what the job has said of the vault.
fn boot(
    scratch: &Scratch,
    board: &Board,
    append: &str,
    overlay: &Path,
    data: &(String, &'static str),
) -> String {
    let data = Some((data.0.clone(), data.1));
    let boot = Boot { append, overlay: Some(overlay), data, board: Some(board), ..Boot::default() };
    let mut guest = Guest::boot(&scratch.path(""), &boot);
    guest.until("every unit ready", 300, |line| line.contains("octant: ready after"));
    guest.until("the job's end", 200, |line| line.contains("octant: job exit "));
    guest.until_off(60);
    let log = guest.log.join("\n");
    assert!(log.contains("octant: job exit 0"), "{log}");
    guest.log.iter().filter_map(|line| line.strip_prefix("vault: ")).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no {word:?} in:\n{text}");
    }
}

/// The line that begins so.
fn line<'a>(text: &'a str, start: &str) -> &'a str {
    text.lines()
        .find(|line| line.trim_start().starts_with(start))
        .unwrap_or_else(|| panic!("no {start}: {text}"))
}

#[test]
fn a_machine_unseals_by_its_tpm_and_its_disk_is_worth_nothing_elsewhere() {
    let scratch = Scratch::new("vault");
    let overlay = agents::overlay(&scratch);
    let (here, there) = (Board::new(scratch.path("here"), HERE), Board::new(scratch.path("there"), THERE));
    let data = with_data(&scratch);

    let first = boot(&scratch, &here, JOB, &overlay, &data);
    says(
        &first,
        &[
            "first boot",
            "state       unsealed",
            "tpm",
            "PCRs 4, 7, 11, 12 as they were",
            "agent: db is the value of db",
        ],
    );
    served(&first);

    // The second boot needs nobody.
    let second = boot(&scratch, &here, JOB, &overlay, &data);
    says(&second, &["state       unsealed", "agent: db is the value of db"]);
    assert!(second.lines().all(|line| line != "first boot"), "{second}");
    assert_eq!(line(&second, "machine"), line(&first, "machine"), "the machine keeps its name");
    served(&second);

    // Another kernel image on the same machine: whoever knows the passphrase is let in.
    let other = boot(&scratch, &here, &format!("other {JOB}"), &overlay, &data);
    says(
        &other,
        &[
            "state       sealed",
            "PCRs 4, 11 changed",
            "the vault is sealed",
            "SEALED",
            "then:   state       unsealed",
        ],
    );
    assert!(!other.contains("made on another machine"), "{other}");

    let again = boot(&scratch, &here, JOB, &overlay, &data);
    says(&again, &["state       unsealed", "agent: db is the value of db"]);

    // The disk in another machine: its TPM opens nothing, and the passphrase alone is not enough.
    let elsewhere = boot(&scratch, &there, JOB, &overlay, &data);
    says(&elsewhere, &["state       sealed", "this is not the TPM", "the vault is sealed"]);
    says(&elsewhere, &["the vault was made on another machine", HERE, THERE, "then:   state       unsealed"]);
    for text in [&other, &elsewhere] {
        assert!(!text.contains("the value of db"), "{text}");
    }
}

/// What a machine that serves its agent says.
#[track_caller]
fn served(text: &str) {
    says(
        text,
        &[
            "agent: signed 89",
            "agent: refused alike with 5",
            "agent: a key pair is not handed out",
            "agent: octant: give a lease (vault): there is no such secret for you",
            "vault lease",
            "vault open",
            "vault sign",
            "denied",
            "the TPM answers",
            "PCR 11 is not zero",
            "octant log key",
        ],
    );
}

const CANARY: &str = "canary-8e1f6c0b47d2";

/// The forms in which a value could lie about.
fn forms() -> Vec<Vec<u8>> {
    let hex: String = CANARY.bytes().map(|byte| format!("{byte:02x}")).collect();
    // Base 64 of it, whatever stands before it: three alignments, without the characters that others share.
    vec![
        CANARY.into(),
        hex.into(),
        b"Y2FuYXJ5LThlMWY2YzBiNDdkM".to_vec()[..20].to_vec(),
        b"NhbmFyeS04ZTFmNmMwYjQ3ZD".to_vec(),
    ]
}

fn found(bytes: &[u8]) -> bool {
    forms().iter().any(|form| bytes.windows(form.len()).any(|window| window == &form[..]))
}

/// Every process that runs Octant's binary below this one: its id, and its command line.
fn processes() -> Vec<(u32, String)> {
    let binary = fs::canonicalize(binary()).unwrap();
    let rows = fs::read_dir("/proc").unwrap().flatten();
    rows.filter_map(|row| {
        let pid: u32 = row.file_name().to_str()?.parse().ok()?;
        let exe = fs::read_link(row.path().join("exe")).ok()?;
        let line = fs::read(row.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        (exe == binary && line.contains("octant")).then_some((pid, line))
    })
    .collect()
}

/// The first mapping of a process in which there is what is looked for. Memory that nobody can read, as secret memory, counts as
/// clean.
fn in_memory(pid: u32, found: impl Fn(&[u8]) -> bool) -> Option<String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let memory = fs::File::open(format!("/proc/{pid}/mem")).ok()?;
    maps.lines().find_map(|row| {
        let (range, rest) = row.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        if !rest.starts_with('r') || rest.contains("[vvar") || rest.contains("[vsyscall") {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(end - start).ok()?];
        memory.read_exact_at(&mut bytes, start).ok()?;
        found(&bytes).then(|| row.to_owned())
    })
}

fn in_files(dir: &Path) -> Vec<PathBuf> {
    let mut hits = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type());
        match kind {
            Ok(kind) if kind.is_dir() => hits.extend(in_files(&path)),
            Ok(kind) if kind.is_file() && found(&fs::read(&path).unwrap_or_default()) => hits.push(path),
            _ => {}
        }
    }
    hits
}

/// What the job does: a secret goes in, is used by an agent, is looked at, copied, sealed anew. Then it waits for the
/// hunt, twice: the second time after the vault was killed in a way that leaves a core dump where one can be left.
const HUNTED: &str = r#"set -e
exec 2>&1
export O="$OCTANT_BIN"
echo 'correct horse battery' | "$O" vault init --passphrase
"$O" vault put db --kind password --username bob --from "$FILES/canary"
rm "$FILES/canary"
"$O" vault grant db --to "manifest-file:$FILES/vault.signed.json" --mode reveal --reason test
"$O" vault put signer --kind key-pair --generate
"$O" vault grant signer --to "manifest-file:$FILES/vault.signed.json" --mode sign --reason test
"$O" agent spawn --wait "$FILES/vault.signed.json"
printf 'correct horse battery' > "$FILES/passphrase"
"$O" vault rekey --yes --passphrase < "$FILES/passphrase"
"$O" vault backup "$FILES/backup"
"$O" vault doctor
touch "$FILES/ready"
while ! [ -e "$FILES/hunted" ]; do sleep 0.1; done
kill -ABRT "$("$O" status --json | tr '{' '\n' | sed -n 's/.*"name":"vault".*"pid":\([0-9]*\).*/\1/p')"
sleep 1
touch "$FILES/again"
while ! [ -e "$FILES/over" ]; do sleep 0.1; done
"#;

/// An agent that uses the secret and shows only that it has it.
const USES: &str = r#"[ "$(octant secret get db)" ] && echo used; echo message | octant secret sign signer >/dev/null && echo signed"#;

#[test]
fn a_used_secret_is_nowhere_but_in_the_vault() {
    let instance = Instance::new("canary");
    let files = instance.scratch.path("files");
    fs::create_dir_all(&files).unwrap();
    fs::write(files.join("canary"), CANARY).unwrap();
    agents::agent_below(&instance.scratch, &files, USES);
    let wait = |name: &str| {
        for _ in 0..1200 {
            if files.join(name).exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    let job = format!(
        "FILES='{}' OCTANT_BIN='{}' bash -c '{}'",
        files.display(),
        path("OCTANT_BIN").display(),
        HUNTED.replace('\'', r"'\''")
    );
    let outcome = std::thread::scope(|scope| {
        let running = scope.spawn(|| instance.accepting(&job));
        wait("ready");
        let all = processes();
        assert!(files.join("ready").exists() && all.len() >= 5, "{all:?}: {:?}", running.join());
        for (pid, line) in &all {
            // The vault's own has been wiped too; the job's command line has the script in it, not the value.
            assert_eq!(in_memory(*pid, found), None, "process {pid}: {line}");
            // The hunt itself finds what is there.
            let there = |bytes: &[u8]| bytes.windows(6).any(|window| window == b"octant");
            assert!(in_memory(*pid, there).is_some(), "the memory of process {pid} was not read: {line}");
        }
        fs::write(files.join("hunted"), "").unwrap();
        wait("again");
        for dir in [instance.dir(), files.clone()] {
            assert_eq!(in_files(&dir), Vec::<PathBuf>::new(), "a file has the value in it");
        }
        fs::write(files.join("over"), "").unwrap();
        running.join().unwrap()
    });
    ended(&outcome, 0, &["leaves no core dump", "good"]);
    assert!(!outcome.1.contains(CANARY), "{}", outcome.1);
}
