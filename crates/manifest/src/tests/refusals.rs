//! Every way in which a manifest is refused, with its field and line.

use super::with;
use crate::{Draft, ManifestError, PathError, Problem, limits, template};

fn problems(text: &str) -> Vec<ManifestError> {
    match Draft::parse(text.as_bytes()) {
        Ok(_) => panic!("it was read:\n{text}"),
        Err(errors) => errors.iter().cloned().collect(),
    }
}

/// The one problem.
fn refused(text: &str) -> ManifestError {
    let mut found = problems(text);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn line(text: &str, of: &str) -> Option<usize> {
    text.lines().position(|l| l.contains(of)).map(|i| i + 1)
}

#[test]
fn the_template_is_a_manifest_and_its_names_cannot_break_it() {
    for name in ["a", "incident-report", &"a".repeat(63)] {
        Draft::parse(template(name, "analyst", "ada@example.org").as_bytes()).unwrap();
    }
    for bad in ["", "A", "a b", "x\"\n[audience]\nmax_spawns = 9", "é", &"a".repeat(64)] {
        let error = refused(&template(bad, "analyst", "ada"));
        assert!(matches!(error.problem, Problem::Name { .. }), "{bad:?}: {error}");
        assert_eq!(error.field, "identity.name");
    }
}

#[test]
fn an_unknown_field_is_refused_with_its_name_and_line() {
    let text = with("memory_max = ", "memmory_max = ");
    let error = refused(&text);
    assert_eq!((error.field.as_str(), error.line), ("resources.memmory_max", line(&text, "memmory_max")));
    assert!(error.to_string().contains("did you mean \"memory_max\""), "{error}");

    let text = with("[lifetime]", "[rights]\nx = 1\n[lifetime]");
    let error = refused(&text);
    assert_eq!((error.field.as_str(), error.line), ("rights", line(&text, "[rights]")));
    assert!(matches!(error.problem, Problem::UnknownField { nearest: None, .. }));
    assert_eq!(refused(&with("hosts = []", "hosts = []\nports = []")).field, "network.ports");
}

#[test]
fn an_action_that_nobody_would_ask_about_cannot_be_demanded() {
    for action in ["x", "spawn:a", "lease", "spend:-1", "message:a b"] {
        let error = refused(&with("required = []", &format!("required = [\"spawn\", \"{action}\"]")));
        assert!(matches!(error.problem, Problem::Pattern(_)), "{action}: {error}");
        assert_eq!(error.field, "approvals.required[1]");
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let text = with("name = \"hello\"", "name = \"Hello\"")
        .replace("machines = [\"*\"]", "machines = [\"*\", \"A\", \"B\"]")
        .replace("read = []", "read = [\"logs\", \"/etc/ssl\", \"/proc\"]")
        .replace("pids_max = 16", "pids_max = 0\npid_max = 1")
        .replace("ttl = \"5min\"", "ttl = 0")
        .replace("hosts = []", "hosts = [\"example.org\"]\nport = 1");
    let found = problems(&text);
    let fields: Vec<&str> = found.iter().map(|e| e.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "identity.name",
            "audience.machines[1]",
            "audience.machines[2]",
            "filesystem.read[0]",
            "filesystem.read[2]",
            "resources.pid_max",
            "resources.pids_max",
            "lifetime.ttl",
            "network.port",
            "network.hosts[0]",
        ]
    );
    assert!(found.iter().all(|e| e.line.is_some()), "each has its line: {found:?}");
    let shown = Draft::parse(text.as_bytes()).unwrap_err().to_string();
    assert_eq!(shown.lines().count(), found.len(), "{shown}");

    let long = format!("\"/{}\"", vec!["a".repeat(200); 19].join("/").replacen('a', "\\u0001", 1));
    let text = with("read = []", &format!("read = [{}]", vec![long.as_str(); 30].join(", ")));
    let shown = Draft::parse(text.as_bytes()).unwrap_err().to_string();
    assert!(shown.len() < 2 * limits::PROBLEMS_BYTES && shown.ends_with(" more"), "{}", shown.len());
}

#[test]
fn only_a_bounded_part_of_the_workspace_is_kept() {
    let read = |lines: &str| Draft::parse(with("retain = []", lines).as_bytes());
    let kept = |lines: &str| read(lines).unwrap().manifest().asked().retain().clone();
    let some = kept("retain = [\"/workspace/a\"]");
    assert_eq!((some.bytes.0, some.files), (16 << 20, 1024));
    assert_eq!(kept("retain = [\"/workspace\", \"/workspace/a\"]").places.to_string(), "[\"/workspace\"]");
    let many = (0..65).map(|n| format!("\"/workspace/{n}\"")).collect::<Vec<_>>().join(", ");
    for (lines, field) in [
        ("retain = [\"/tmp/a\"]", "lifetime.retain[0]"),
        ("retain = [\"/workspaces\"]", "lifetime.retain[0]"),
        ("retain = [\"out\"]", "lifetime.retain[0]"),
        ("retain = [\"/workspace/../etc\"]", "lifetime.retain[0]"),
        ("retain_bytes = \"1MiB\"", "lifetime.retain_bytes"),
        ("retain = []\nretain_files = 1", "lifetime.retain_files"),
        ("retain = [\"/workspace\"]\nretain_files = 0", "lifetime.retain_files"),
        ("retain = [\"/workspace\"]\nretain_bytes = \"2GiB\"", "lifetime.retain_bytes"),
        (format!("retain = [{many}]").as_str(), "lifetime.retain"),
    ] {
        let error = refused(&with("retain = []", lines));
        assert_eq!(error.field, field, "{lines}: {error}");
    }
}

#[test]
fn a_domain_that_is_absent_or_empty_grants_nothing() {
    let text = template("hello", "analyst", "ada");
    let short = text.split("# The domains below").next().unwrap();
    let both = (Draft::parse(text.as_bytes()).unwrap(), Draft::parse(short.as_bytes()).unwrap());
    assert_eq!(both.0, both.1);
}

#[test]
fn what_has_no_default_must_be_there() {
    for field in ["name", "role", "operator", "machines", "not_after", "max_spawns", "executable", "cwd"] {
        missing(field);
    }
    for field in ["memory_max", "pids_max", "cpu_quota_percent", "ttl", "manifest"] {
        missing(field);
    }
}

fn missing(field: &str) {
    let text = template("hello", "analyst", "ada");
    let kept: Vec<&str> = text.lines().filter(|l| !l.starts_with(&format!("{field} ="))).collect();
    let error = refused(&kept.join("\n"));
    assert!(matches!(error.problem, Problem::Missing(_)), "{field}: {error}");
    assert!(error.field.ends_with(field), "{field}: {error}");
}

#[test]
fn a_value_of_another_type_is_refused_and_says_what_to_write() {
    let cases = [
        ("name = \"hello\"", "name = 1"),
        ("machines = [\"*\"]", "machines = \"*\""),
        ("not_after = 2035-01-01T00:00:00Z", "not_after = \"2035-01-01T00:00:00Z\""),
        ("max_spawns = 100", "max_spawns = 1.5"),
        ("args = [", "args = [1, "),
        ("memory_max = \"64MiB\"", "memory_max = true"),
        ("ttl = \"5min\"", "ttl = []"),
        ("allowed = false", "allowed = 0"),
    ];
    for (from, to) in cases {
        let error = refused(&with(from, to));
        assert!(matches!(error.problem, Problem::Type { .. }), "{to}: {error}");
    }
    let section = template("hello", "analyst", "ada").replace("[network]\nhosts = []", "");
    let error = refused(&format!("network = 1\n{section}"));
    assert_eq!((error.field.as_str(), error.line), ("network", Some(1)));
    assert!(matches!(error.problem, Problem::Type { want: "a section", .. }));
}

#[test]
fn impossible_limits_are_refused() {
    let cases = [
        ("pids_max = 16", "pids_max = 0"),
        ("pids_max = 16", "pids_max = 1048576"),
        ("workspace_bytes = \"16MiB\"", "workspace_bytes = 0"),
        ("tmp_bytes = \"4MiB\"", "tmp_bytes = 4095"),
        ("fsize = \"16MiB\"", "fsize = 0"),
        ("nofile = 256", "nofile = 1048577"),
        ("cpu_quota_percent = 100", "cpu_quota_percent = 0"),
        ("cpu_weight = 100", "cpu_weight = 0"),
        ("cpu_weight = 100", "cpu_weight = 10001"),
        ("memory_max = \"64MiB\"", "memory_max = 0"),
        ("memory_max = \"64MiB\"", "memory_max = \"4095KiB\""),
        ("memory_high = \"48MiB\"", "memory_high = \"65MiB\""),
        ("memory_high = \"48MiB\"", "memory_high = 0"),
        ("workspace_inodes = 1024", "workspace_inodes = 0"),
        ("nofile = 256", "nofile = 3"),
        ("nofile = 256", "io_read_bytes_per_second = \"63KiB\""),
        ("nofile = 256", "io_write_bytes_per_second = 0"),
        ("nofile = 256", "io_read_ops_per_second = 7"),
        ("nofile = 256", "io_write_ops_per_second = 4294967295"),
        ("max_spawns = 100", "max_spawns = 0"),
        ("ttl = \"5min\"", "ttl = 0"),
        ("ttl = \"5min\"", "ttl = \"9999999h\""),
    ];
    for (from, to) in cases {
        let text = with(from, to);
        let error = refused(&text);
        assert!(matches!(error.problem, Problem::Impossible { .. }), "{to}: {error}");
        assert_eq!(error.line, line(&text, to), "{to}");
    }
    for (from, to) in
        [("pids_max = 16", "pids_max = -1"), ("memory_max = \"64MiB\"", "memory_max = \"64MB\"")]
    {
        assert!(matches!(refused(&with(from, to)).problem, Problem::Quantity(_)), "{to}");
    }
}

#[test]
fn paths_are_absolute_plain_and_not_octants_own() {
    let read = |path: &str| {
        let quoted = toml::Value::String(path.to_owned());
        refused(&with("read = []", &format!("read = [\"/srv\", {quoted}]")))
    };
    for path in ["", "logs", "./logs", "../etc", "~/x"] {
        let error = read(path);
        assert!(matches!(error.problem, Problem::Path(PathError::Relative(_))), "{path}: {error}");
        assert_eq!(error.field, "filesystem.read[1]");
    }
    for path in ["/srv/../etc/shadow", "/..", "/srv/.."] {
        assert!(matches!(read(path).problem, Problem::Path(PathError::Parent(_))), "{path}");
    }
    assert!(matches!(read("/srv/\n").problem, Problem::Path(PathError::Control(_))));
    for path in [format!("/{}", "a".repeat(256)), "/a".repeat(65), format!("/{}", "a/".repeat(2047))] {
        assert!(matches!(read(&path).problem, Problem::Path(PathError::TooLong { .. })), "{}", path.len());
    }
    for path in
        ["/", "//", "/.", "/etc", "/run", "/var/lib", "/proc/1", "/sys/", "/dev/sda", "/bin", "/octant"]
    {
        let error = read(path);
        assert!(matches!(error.problem, Problem::ReservedPath { .. }), "{path}: {error}");
    }
    for path in ["/etc/octant/trusted", "/run/octant/ledger.sock", "/var/lib/octant", "/tmp", "/workspace/"] {
        assert!(matches!(read(path).problem, Problem::ReservedPath { .. }), "{path}");
    }
    for path in ["/etc/octants", "/etc/ssl", "/tmp/data", "/var/log/nginx", "/octants", "/usr//share/./x/"] {
        Draft::parse(with("read = []", &format!("read = [{path:?}]")).as_bytes()).unwrap();
    }
}

#[test]
fn system_calls_of_the_deny_list_cannot_be_added() {
    for row in crate::DENIED_SYSCALLS {
        let error = refused(&with("add = []", &format!("add = [\"getcpu\", \"{}\"]", row.name)));
        assert_eq!(error.problem, Problem::DeniedSyscall { name: row.name, why: row.why });
    }
    for name in
        ["init_module", "reboot", "kexec_load", "bpf", "ptrace", "mount", "move_mount", "io_uring_setup"]
    {
        assert!(crate::DENIED_SYSCALLS.iter().any(|row| row.name == name), "{name}");
    }
    assert!(crate::DENIED_SYSCALLS.is_sorted_by(|a, b| a.name < b.name), "the list is searched by halves");
    assert!(matches!(refused(&with("add = []", "add = [\"MOUNT\"]")).problem, Problem::Name { .. }));
    Draft::parse(with("add = []", "add = [\"getcpu\"]").as_bytes()).unwrap();
}

#[test]
fn the_program_must_be_granted() {
    let cases = ["/bin/awk", "/usr/bin/python3", "/bin/sh/../rm", "/bin/", "/workspace/x"];
    for path in cases {
        let error = refused(&with("executable = \"/bin/sh\"", &format!("executable = {path:?}")));
        assert_eq!(error.field, "program.executable", "{path}: {error}");
    }
    let text = with("executable = \"/bin/sh\"", "executable = \"/usr/bin/python3\"");
    Draft::parse(text.replace("paths = []", "paths = [\"/usr\"]").as_bytes()).unwrap();
    let error = refused(&with("cwd = \"/workspace\"", "cwd = \"/srv\""));
    assert_eq!(error.problem, Problem::CwdNotGranted("/srv".into()));
    let error = refused(&with("args = [", "args = [\"\\u0000\", "));
    assert_eq!((error.field.as_str(), &error.problem), ("program.args[0]", &Problem::Nul));
}

#[test]
fn writable_and_executable_needs_a_profile_that_says_so() {
    let text = with("write = []", "write = [\"/srv/build\"]").replace("paths = []", "paths = [\"/srv\"]");
    let error = refused(&text);
    assert_eq!(error.problem, Problem::WritableExecutable("/srv/build".into()));
    Draft::parse(text.replace("profile = \"shell\"", "profile = \"compiler\"").as_bytes()).unwrap();
    for own in ["/tmp", "/workspace", "/workspace/bin"] {
        let text = with("paths = []", &format!("paths = [{own:?}]"));
        assert_eq!(refused(&text).problem, Problem::WritableExecutable(own.into()), "written in any case");
        let text = text.replace("profile = \"shell\"", "profile = \"node\"");
        assert!(Draft::parse(text.as_bytes()).unwrap().manifest().asked().execute().len() == 1);
    }
}

#[test]
fn a_digest_is_of_one_file_that_may_be_executed_and_not_written() {
    let digest = "a".repeat(64);
    let pinned =
        |paths: &str, pin: &str| with("paths = []", &format!("paths = [{paths}]\nsha256 = [{pin:?}]"));
    let good = pinned("\"/opt/tool\"", &format!("{digest}  /opt/tool"));
    assert_eq!(Draft::parse(good.as_bytes()).unwrap().manifest().asked().pins().iter().count(), 1);
    for bad in ["/opt/tool", "abc /opt/tool", &format!("{digest} "), &format!("{digest}/opt/tool")] {
        assert_eq!(refused(&pinned("\"/opt/tool\"", bad)).field, "executables.sha256[0]", "{bad}");
    }
    // A tree has no digest, and what can be written has not for long.
    for paths in ["", "\"/opt\"", "\"/opt/tool\", \"/opt\""] {
        let error = refused(&pinned(paths, &format!("{digest}  /opt/tool")));
        assert!(error.to_string().contains("no entry of executables.paths"), "{error}");
    }
    let written = good.replace("write = []", "write = [\"/opt/tool\"]").replace("\"shell\"", "\"compiler\"");
    assert!(refused(&written).to_string().contains("it can be written"));
    let many: Vec<String> = (0..33).map(|i| format!("\"{i:064x}  /opt/tool\"")).collect();
    let many = with("paths = []", &format!("paths = [\"/opt/tool\"]\nsha256 = [{}]", many.join(", ")));
    assert!(refused(&many).to_string().contains("33 digests"));
}

#[test]
fn words_that_do_not_exist_are_refused() {
    assert!(matches!(refused(&with("\"shell\"", "\"none\"")).problem, Problem::Profile(_)));
    assert!(matches!(refused(&with("\"terminate\"", "\"survive\"")).problem, Problem::OnParentDeath(_)));
    let timeout = with("on_timeout = \"end\"", "on_timeout = \"sleep\"");
    assert!(matches!(refused(&timeout).problem, Problem::OnTimeout(_)));
    assert!(matches!(refused(&with("manifest = 1", "manifest = 2")).problem, Problem::Version(2)));
    for date in ["2035-01-01", "2035-01-01T00:00:00", "1969-01-01T00:00:00Z"] {
        let error = refused(&with("not_after = 2035-01-01T00:00:00Z", &format!("not_after = {date}")));
        assert!(matches!(error.problem, Problem::Date(_)), "{date}: {error}");
    }
    let never = with("max_spawns", "not_before = 2035-01-01T00:00:00Z\nmax_spawns");
    assert!(matches!(refused(&never).problem, Problem::NeverValid));
    assert!(matches!(refused(&with("\"ls\"", "\"../ls\"")).problem, Problem::Name { .. }));
}

#[test]
fn the_bounds_of_the_text_hold() {
    assert!(matches!(refused(&"#".repeat(limits::MANIFEST_BYTES + 1)).problem, Problem::TooLarge(_)));
    let binary = Draft::parse(b"manifest = 1\n\xff").unwrap_err();
    let binary = binary.iter().next().unwrap();
    assert_eq!((binary.line, &binary.problem), (Some(2), &Problem::NotText(13)));
    let syntax = refused(&with("max_spawns = 100", "max_spawns = = 100"));
    assert!(matches!(syntax.problem, Problem::Syntax(_)));
    assert_eq!(syntax.line, line(&with("max_spawns = 100", "max_spawns = = 100"), "= ="));
    let twice = with("max_spawns = 100", "max_spawns = 100\nmax_spawns = 100");
    assert!(matches!(refused(&twice).problem, Problem::Syntax(_)), "a field that is there twice");
    let nested = format!("[network]\nhosts = {}{}", "[".repeat(20), "]".repeat(20));
    assert!(matches!(refused(&nested).problem, Problem::TooDeep));
    for deep in ["[".repeat(100_000), "a.".repeat(70_000) + "a = 1", format!("[{}a]", "a.".repeat(70_000))] {
        assert!(matches!(refused(&deep).problem, Problem::Syntax(_)), "nothing overflows");
    }
    let list = vec!["\"/srv\""; limits::LIST + 1].join(",");
    let error = refused(&with("read = []", &format!("read = [{list}]")));
    assert_eq!(error.problem, Problem::ListTooLong(limits::LIST + 1));
    let long = format!("args = [\"{}\", ", "a".repeat(limits::TEXT_BYTES + 1));
    assert!(matches!(refused(&with("args = [", &long)).problem, Problem::TextTooLong(..)));
    let many = format!("args = [{}", format!("\"{}\", ", "a".repeat(4000)).repeat(20));
    assert!(matches!(refused(&with("args = [", &many)).problem, Problem::TextTooLong(..)));
}

#[test]
fn a_message_says_what_where_why_and_what_next() {
    let error = refused(&with("read = []", "read = [\"logs\"]"));
    assert_eq!(
        error.to_string(),
        "manifest line 22, filesystem.read[0]: \"logs\" is relative, and a manifest has no directory to be \
         relative to; write an absolute path"
    );
    let error = refused(&with("hosts = []", "hosts = [\"example.org\"]"));
    assert_eq!(
        error.to_string(),
        "manifest line 66, network.hosts[0]: \"example.org\" cannot stand here: the protocol is missing; write \
         PROTOCOL://HOST:PORT such as \"tls://api.example.org:443\""
    );
}

#[test]
fn a_root_is_an_image_by_its_digest() {
    for bad in ["python:3.12", "image:python", "image:sha256:00", "sha256:00", "/", "", &"a".repeat(64)] {
        let text = with("read = []", &format!("root = \"{bad}\"\nread = []"));
        let error = refused(&text);
        assert!(matches!(error.problem, Problem::Name { .. }), "{bad}: {error}");
        assert_eq!((error.field.as_str(), error.line), ("filesystem.root", line(&text, "root = ")));
    }
}

#[test]
fn a_workspace_begins_with_a_snapshot_by_its_digest() {
    for bad in ["image:sha256:", "snapshot:sha256:00", "snapshot", ""] {
        let error = refused(&with("read = []", &format!("workspace = \"{bad}\"\nread = []")));
        assert!(matches!(error.problem, Problem::Name { .. }), "{bad}: {error}");
        assert_eq!(error.field, "filesystem.workspace");
    }
}

#[test]
fn what_would_be_swallowed_by_the_agents_own_place_is_refused() {
    let text = |read: &str, write: &str, execute: &str| {
        with("read = []", &format!("read = [{read}]"))
            .replace("write = []", &format!("write = [{write}]"))
            .replace("paths = []", &format!("paths = [{execute}]"))
            .replace("profile = \"shell\"", "profile = \"python\"")
    };
    let file = "\"/tmp/x/file\"";
    for (text, field) in [
        (text(file, "", "\"/tmp\""), "filesystem.read[0]"),
        (text("\"/srv\", \"/workspace/a\"", "", "\"/workspace\""), "filesystem.read[1]"),
        (text("", "", "\"/tmp\", \"/tmp/x\""), "executables.paths[1]"),
        (text(file, "\"/tmp/y\"", "\"/tmp\""), "filesystem.read[0]"),
    ] {
        let error = refused(&text);
        assert_eq!(error.field, field, "{error}");
        assert!(error.line.is_some() && error.to_string().contains("own"), "{error}");
    }
    // Each of these is bound where it is.
    for text in [
        text(file, "", ""),
        text(file, "", "\"/workspace\""),
        text(file, "\"/tmp/x\"", "\"/tmp\""),
        text("\"/tmpx/file\"", "\"/tmp/x\"", "\"/tmp\", \"/tmp/x\""),
    ] {
        Draft::parse(text.as_bytes()).unwrap();
    }
}

#[test]
fn what_an_images_maker_wrote_down_needs_an_image() {
    let root = format!("root = \"image:sha256:{}\"\nread = []", "a".repeat(64));
    let of = |text: &str| {
        let draft = Draft::parse(text.as_bytes()).unwrap();
        let program = draft.manifest().program();
        (program.image_environment, program.image_cwd)
    };
    for (name, read) in [("image_environment", (true, false)), ("image_cwd", (false, true))] {
        let asks = format!("cwd = \"/workspace\"\n{name} = ");
        let text = |flag: &str| with("cwd = \"/workspace\"", &format!("{asks}{flag}"));
        let error = refused(&text("true"));
        assert_eq!(error.field, format!("program.{name}"), "{error}");
        assert!(error.to_string().contains("filesystem.root"), "{error}");
        assert!(matches!(refused(&text("1")).problem, Problem::Type { .. }));
        assert_eq!(of(&text("true").replace("read = []", &root)), read);
        assert_eq!(of(&text("false")), (false, false));
    }
    assert_eq!(of(&with("read = []", &root)), (false, false));
}
