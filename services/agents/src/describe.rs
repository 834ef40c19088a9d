//! An agent's rights and layers, for callers and for the record.

use octant_api::agents::{Denial, Layer};
use octant_manifest::{Effective, GrantPath, Grants, Kept, Resources};
use octant_workstation::Report;

/// The longest text of one denial, in characters: a record has room for all of them.
const TEXT_MAX: usize = 1000;

/// The rights in force, one a line.
pub(crate) fn grants(rights: &Effective) -> Vec<String> {
    let paths = |verb: &str, paths: Vec<&GrantPath>| -> Vec<String> {
        paths.into_iter().map(|path| format!("{verb} {path}")).collect()
    };
    let mut lines = vec![format!("run {}", rights.program().executable)];
    lines.extend(
        rights.grants().root().digest().map(|image| format!("read and execute image sha256:{image}")),
    );
    match rights.grants().workspace() {
        Kept::Only(snapshot) => lines.push(format!("/workspace as in snapshot sha256:{snapshot}")),
        Kept::Any => lines.push("/workspace as in the snapshot that a fork names".to_owned()),
        Kept::None => {}
    }
    let kept = rights.grants().retain();
    if !kept.places.is_empty() {
        let places: Vec<&str> = kept.places.iter().map(GrantPath::as_str).collect();
        let (bytes, files) = (kept.bytes, kept.files);
        lines.push(format!("kept after its end: {}, {bytes} in {files} files", places.join(" ")));
    }
    lines.extend(paths("read", rights.read_only().collect()));
    lines.extend(paths("write", rights.writable().collect()));
    lines.extend(paths("execute in", rights.executable_paths().collect()));
    let pins = rights.grants().pins().iter();
    lines.extend(pins.map(|(path, digest)| format!("{path} with sha256:{digest}, as a copy")));
    let utilities: Vec<&str> = rights.utilities().collect();
    if !utilities.is_empty() {
        lines.push(format!("utilities {}", utilities.join(" ")));
    }
    let added: Vec<&str> = rights.syscalls().iter().collect();
    let added = if added.is_empty() { String::new() } else { format!(" and {}", added.join(" ")) };
    lines.push(format!("system calls of profile {}{added}", rights.profile().name()));
    lines.extend(outside(rights.grants()));
    let rooms: Vec<&str> = rights.grants().rooms().iter().collect();
    if !rooms.is_empty() {
        lines.push(format!("messages in the rooms {}", rooms.join(" ")));
    }
    if rights.grants().generations() > 0 {
        let (descendants, generations) = (rights.allotment().parts()[0], rights.grants().generations());
        lines.push(format!("spawn {descendants} descendants in {generations} generations"));
    }
    lines.extend(rights.grants().approvals().iter().map(|action| format!("ask an operator for {action}")));
    lines.extend(limits(rights.resources()));
    lines.push(
        rights.ttl().map_or("time to live unlimited".to_owned(), |t| format!("time to live {}s", t.0 / 1000)),
    );
    lines
}

/// What it may reach and use beyond its workstation.
fn outside(grants: &Grants) -> Vec<String> {
    let mut lines: Vec<String> = grants.hosts().iter().map(|host| format!("connect to {host}")).collect();
    lines.extend(grants.credentials().iter().map(|grant| format!("secret: {grant}")));
    lines.extend(grants.models().allowed.iter().map(|model| format!("model {model}")));
    lines.extend(grants.skills().iter().map(|skill| format!("skill {skill}")));
    lines.extend(grants.tools().iter().map(|tool| format!("tool {tool}")));
    lines
}

fn limits(limits: &Resources) -> [String; 6] {
    [
        format!("memory {}, reclaimed from {}", limits.memory_max, limits.memory_high),
        format!("cpu {}%, weight {}", limits.cpu_quota_percent, limits.cpu_weight),
        format!("processes {}", limits.pids_max),
        format!(
            "/workspace {} in {} files, /tmp {}",
            limits.workspace_bytes, limits.workspace_inodes, limits.tmp_bytes
        ),
        format!("each process {} descriptors, files of {}", limits.nofile, limits.fsize),
        format!("disks {}", limits.io.summary()),
    ]
}

/// What was asked and not given.
pub(crate) fn denials(rights: &Effective) -> Vec<Denial> {
    let clip = |text: &str| text.chars().take(TEXT_MAX).collect();
    let row = |n: &octant_manifest::Narrowed| Denial {
        field: n.field.to_owned(),
        asked: clip(&n.asked),
        got: clip(&n.got),
    };
    rights.narrowed().iter().map(row).collect()
}

/// The layers that the spawner read back.
pub(crate) fn layers(report: &Report) -> Vec<Layer> {
    let layer = |name: &str, detail: String| Layer { name: name.to_owned(), detail };
    let mut layers: Vec<Layer> =
        report.namespaces.iter().map(|(name, number)| layer(name, format!("namespace {number}"))).collect();
    layers.push(layer("landlock", format!("ABI {}", report.landlock_abi)));
    layers.push(layer("seccomp", format!("{} filters, SHA-256 {}", report.filter_count, report.filters)));
    if !report.missing.contains(&octant_workstation::Layer::Nftables) {
        let detail = "what leaves the network goes over loopback, to its own addresses or the gate's";
        layers.push(layer("nftables", detail.to_owned()));
    }
    layers.push(layer("ids", format!("host user ids from {}", report.uid_base)));
    layers.push(layer("mounts", format!("{} mounts", report.mounts.len())));
    layers
}

/// The names of layers that are missing because that was accepted.
pub(crate) fn missing(report: &Report) -> Vec<String> {
    report.missing.iter().map(ToString::to_string).collect()
}
