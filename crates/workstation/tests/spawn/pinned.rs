//! Executables by the digest of their bytes.

use crate::bench::{Bench, plan, ticket, wait};
use octant_workstation::{Bind, Plan, Step};
use sha2::Digest;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

/// What the agent has there, and that it can be executed and not be changed.
pub(crate) fn inside() -> ExitCode {
    let text = fs::read_to_string("/opt/tool").unwrap();
    let execute = nix::unistd::access("/opt/tool", nix::unistd::AccessFlags::X_OK);
    println!("{text} {} {}", execute.is_ok(), fs::write("/opt/tool", "mine").is_err());
    ExitCode::SUCCESS
}

fn pinned(tool: &Path, bytes: &str) -> Plan {
    let mut plan = plan(&["pinned"]);
    let source = tool.to_str().unwrap().to_owned();
    plan.pins.insert(source.clone(), octant_ids::Sha256(sha2::Sha256::digest(bytes).into()));
    plan.binds.push(Bind { source, target: "/opt/tool".into(), write: false, exec: true });
    plan
}

pub(crate) fn a_file_with_a_digest_stays_what_was_signed() {
    let mut bench = Bench::new(None);
    let tool = bench.dir.join("tool");
    fs::write(&tool, "signed").unwrap();
    let plan = pinned(&tool, "signed");
    let (prepared, output) = bench.prepare(&plan, &ticket(&plan)).unwrap();
    // The same file, with other bytes: what runs is the copy that was looked at.
    fs::write(&tool, "changed").unwrap();
    bench.client.release(plan.slot, plan.aid, &ticket(&plan)).unwrap();
    let mut text = String::new();
    fs::File::from(output).read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), wait(&prepared)), ("signed true true\n", 0));
    bench.client.retire(plan.slot, plan.aid).unwrap();
    bench.assert_nothing_is_left(&plan);
    // The next spawn says so, also where there is a copy already.
    for _ in 0..2 {
        let next = pinned(&tool, "signed");
        let error = bench.spawn(&next).unwrap_err();
        assert_eq!(error.step, Step::Sources);
        assert!(error.to_string().contains("and the manifest has"), "{error}");
        bench.assert_nothing_is_left(&next);
    }
    fs::write(&tool, "signed").unwrap();
    assert_eq!(bench.run(&pinned(&tool, "signed")), (0, "signed true true\n".to_owned()));
    let large = fs::File::options().write(true).open(&tool).unwrap();
    large.set_len((64 << 20) + 1).unwrap();
    let error = bench.spawn(&pinned(&tool, "signed")).unwrap_err();
    assert!(error.to_string().contains("a file with a digest can have"), "{error}");
}
