//! What agents make: kept after their end, forked while they run, compared and merged.

use crate::namespace::{Instance, ended};
use octant_tests::agents::sign;
use octant_tests::environment::binary;
use std::fs;
use std::process::Command;

/// Makes something of an empty workspace, and something else of one that it finds full; then changes a file when told.
const WORK: &str = "if [ -e base ]; then echo forked > fork; rm gone; rm -r dir; echo two > both; else \
    echo 1 > base; mkdir dir out; echo x > dir/x; echo x > gone; echo one > both; echo found > out/text; \
    ln -s /etc/shadow out/link; fi; echo ready; until [ -e @DIR@/now ]; do sleep 0.1; done; \
    if [ -e @DIR@/keep ]; then while :; do echo $x > out/text; x=1$x; done & \
    /octant workspace snapshot && echo kept || echo not; kill $!; fi; \
    echo $(cat both) later > both; echo later; sleep 60";

/// A signed manifest of that agent, below the instance's scratch directory; the directory in which it waits for `now`.
fn agent(instance: &Instance, retain: &str) -> (String, String) {
    let dir = instance.scratch.path("told");
    fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("{e}"));
    let dir = dir.display().to_string();
    let work = WORK.replace("@DIR@", &dir);
    let made = Command::new(binary())
        .args(["manifest", "new", "worker", "--operator", "operator", "--role", "developer"])
        .output()
        .unwrap_or_else(|e| panic!("manifest new: {e}"));
    let mut text = String::from_utf8_lossy(&made.stdout).into_owned();
    let utilities = r#"utilities = ["cat", "ln", "mkdir", "rm", "sh", "sleep"]"#.to_owned();
    for (line, new) in [
        ("args = ", format!("args = [\"-c\", {}]", serde_json::Value::from(work))),
        ("read = ", format!("workspace = \"any\"\nread = [\"{dir}\"]")),
        ("utilities = ", utilities),
        ("retain = ", format!("retain = [\"{retain}\"]")),
    ] {
        let old =
            text.lines().find(|old| old.starts_with(line)).unwrap_or_else(|| panic!("{line} in {text}"));
        text = text.replacen(&old.to_owned(), &new, 1);
    }
    let (manifest, signed) = (instance.scratch.path("worker.toml"), instance.scratch.path("worker.json"));
    fs::write(&manifest, text).unwrap_or_else(|e| panic!("{e}"));
    sign(&manifest, &signed);
    (signed.display().to_string(), dir)
}

/// Shell: spawns the agent as `$A`, with `say AGENT WORD` to wait until it has said something.
fn begin(signed: &str) -> String {
    format!(
        "say() {{ until octant agent logs $1 | grep -q $2; do sleep 0.2; done; }}
         A=$(octant agent spawn {signed}) && say $A ready || exit 9"
    )
}

#[test]
fn a_fork_goes_its_own_way_and_is_merged_unless_both_changed_the_same() {
    let instance = Instance::new("fork");
    let (signed, told) = agent(&instance, "/workspace");
    let job = format!(
        "{}
         F=$(octant agent fork $A) && say $F ready || exit 8
         octant agent list
         octant workspace diff $A $F; echo diff $?
         octant workspace merge $A $F > {told}/merged && octant workspace diff $(cat {told}/merged) $F && echo merged
         touch {told}/now; say $A later; say $F later
         octant workspace merge $A $F; echo merge $?
         octant agent kill $F; octant workspace snapshot $F > {told}/kept
         octant agent artefacts $F; octant agent artefacts $F --out {told}/fetched; cat {told}/fetched/both
         octant workspace diff $(cat {told}/kept) $F && echo same
         octant agent fork $F > /dev/null && echo forked from what was kept
         octant agent artefacts $F --remove; octant agent artefacts $F; echo removed $?
         octant ledger query --kind command --json; octant ledger query --kind lifecycle --json; octant ledger verify",
        begin(&signed)
    );
    let words = [
        "~ both\n- dir/\n- dir/x\n+ fork\n- gone\n",
        "diff 1",
        "\nmerged\n",
        "both: changed on both sides, and differently",
        "merge 1",
        "out/link ->",
        "two later",
        "\nsame\n",
        "forked from what was kept",
        "removed 3",
        r#""do":"keep_snapshot""#,
        r#""do":"merge_snapshots""#,
        r#""do":"remove_artefacts""#,
        r#""artefacts":{"#,
    ];
    ended(&instance.accepting(&job), 0, &words);
}

#[test]
fn what_a_manifest_names_outlives_a_restart_of_the_service_and_the_rest_is_gone() {
    let instance = Instance::new("artefacts");
    let (signed, told) = agent(&instance, "/workspace/out");
    let job = format!(
        "{}
         octant service restart agents && touch {told}/now && say $A later
         octant agent kill $A; octant agent artefacts $A --out {told}/fetched
         ls {told}/fetched; cat {told}/fetched/out/text
         octant agent fork $A; echo fork $?",
        begin(&signed)
    );
    ended(
        &instance.accepting(&job),
        0,
        &["\nout\nfound\n", "only a part of what was in it is kept", "fork 1"],
    );
}

#[test]
fn an_agent_keeps_a_snapshot_of_what_its_manifest_names_while_its_own_processes_write() {
    let instance = Instance::new("snapshot");
    let (signed, told) = agent(&instance, "/workspace/out");
    let job = format!(
        "{}
         touch {told}/keep {told}/now; say $A later; octant agent logs $A
         T=$(octant agent show $A --json | sed -n 's/.*\"snapshots\":\\[{{\"tree\":\"\\([0-9a-f]*\\)\".*/\\1/p')
         octant agent artefacts $A --snapshot $T --out {told}/fetched; ls {told}/fetched {told}/fetched/out
         octant agent list | grep -c running
         octant agent artefacts $A --snapshot $T --remove; octant agent artefacts $A --snapshot $T; echo removed $?
         octant ledger query --kind lifecycle --json; octant ledger verify",
        begin(&signed)
    );
    ended(&instance.accepting(&job), 0, &["kept\n", "\nlink\ntext\n1\n", "removed 3", r#""snapshot":{"#]);
}
