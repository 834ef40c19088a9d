//! What an operator sees: doctor, with one thing after the other broken; logs, with a unit that says too much.

use crate::namespace::{Instance, ended};

/// Each row of the doctor's report that is not in order, by its name.
const BAD: &str = r#"bad() { octant doctor --json | tr '{' '\n' | grep -E '"verdict":"(broken|missing|weaker)"' | sed 's/.*"check":"\([^"]*\)".*/bad: \1/'; }
"#;

#[test]
fn the_doctor_names_what_was_broken_and_nothing_else() {
    let job = format!(
        r#"{BAD}
        octant health --wait 20s >/dev/null; bad > "$OCTANT_DIR/before"; octant doctor | grep 'denied: '
        chmod 0777 "$OCTANT_DIR/run/vault.sock"; chown 1 "$OCTANT_DIR/state/agents"
        octant service stop log --wait 20s
        bad > "$OCTANT_DIR/after"; chmod 0600 "$OCTANT_DIR/run/vault.sock"; grep -vxF -f "$OCTANT_DIR/before" "$OCTANT_DIR/after"
        "#
    );
    let outcome = Instance::new("doctor").accepting(&job);
    // What has to be denied was, by the layer that has to.
    let denied = [
        "denied: ptrace",
        "EPERM by seccomp",
        "EROFS by mounts",
        "EACCES by Landlock",
        "ENOSPC by quota of /tmp",
    ];
    ended(&outcome, 0, &denied);
    assert!(
        !outcome.1.contains("NOT DENIED") || outcome.1.contains("without cgroup limits"),
        "{}",
        outcome.1
    );
    let bad: Vec<&str> = outcome.1.lines().filter(|line| line.starts_with("bad: ")).collect();
    assert!(bad.iter().any(|line| line.ends_with("/run/vault.sock")), "{bad:?}");
    assert!(bad.iter().any(|line| line.ends_with("/state/agents")), "{bad:?}");
    // A disk that others use may have become slow.
    let known = ["durable write", "/run/vault.sock", "/state/agents", "unit log"];
    assert!(bad.contains(&"bad: unit log"), "{bad:?}");
    assert!(bad.iter().all(|line| known.iter().any(|known| line.ends_with(known))), "{bad:?}");
}

#[test]
fn the_doctor_sees_a_disk_that_is_full() {
    let job = format!(
        r#"{BAD}
        octant health --wait 20s >/dev/null
        dd if=/dev/zero of="$OCTANT_DIR/state/fill" bs=1M 2>/dev/null; sleep 6; bad; rm "$OCTANT_DIR/state/fill"
        "#
    );
    let outcome = Instance::new("full").on_a_small_disk(64, &job);
    ended(&outcome, 0, &["bad: disk space", "bad: durable write"]);
}

#[test]
fn what_a_unit_says_too_fast_is_counted_and_the_log_is_followed() {
    let instance = Instance::new("logs");
    let unit = r#"exec = ["/bin/sh", "-c", "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo \"line $i\"; done; sleep 2; printf 'last \\033[2J\\n' >&2; sleep 60"]
user = 1000
type = "simple"
"#;
    instance.write("etc/units/chatty.toml", unit.as_bytes());
    let job = r#"for i in 1 2 3 4 5 6 7 8 9 10; do octant logs chatty 2>/dev/null | grep -q 'last ' && break; sleep 1; done
        octant logs -n 4 chatty; octant logs --json -n 1 chatty; octant logs vault; octant health --wait 20s"#;
    let outcome = instance.accepting(job);
    ended(
        &outcome,
        0,
        &[
            "lines dropped: ",
            "came faster than 200 a second",
            "]: last \\u{1b}[2J",
            "\"stream\":\"err\"",
            "]: info: healthy",
        ],
    );
    assert!(!outcome.1.contains("]: line 3000"), "{}", outcome.1);
}
