//! What leaves a workstation's network where nothing but the rules of nf_tables is there to stop it.

use crate::bench::{Bench, plan, wait};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::sched::{CloneFlags, setns};
use octant_api::egress::NAMES_V4;
use octant_sys::netlink::{local_route, loopback_up};
use octant_workstation::Layer;
use octant_workstation::spawner::{Fault, Side};
use std::fs::File;
use std::io::{self, Read};
use std::net::UdpSocket;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Addresses for documentation, which lead nowhere.
const ELSEWHERE: &str = "192.0.2.7:9";
const NAME: &str = "198.18.3.4:9";

/// Sends to both as soon as there is a way to them, and says what came of it.
pub(crate) fn inside() -> ExitCode {
    const ENETUNREACH: i32 = 101;
    let send = |to: &str| -> io::Result<usize> { UdpSocket::bind("0.0.0.0:0")?.send_to(b"x", to) };
    for to in [NAME, ELSEWHERE] {
        let sent = loop {
            match send(to) {
                Err(error) if error.raw_os_error() == Some(ENETUNREACH) => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                sent => break sent,
            }
        };
        println!("{to}: {}", sent.map_or_else(|error| error.to_string(), |_| "sent".into()));
    }
    ExitCode::SUCCESS
}

/// The filter lets it have sockets of the network, and the way is put there from outside, over loopback. With both barriers
/// behind them left out everything leaves, so what stops it is each of these by itself.
pub(crate) fn rules_and_hooks_stop_what_is_let_through() {
    const STOPPED: &str = "Operation not permitted (os error 1)";
    let rules = || Some(Fault::Overlook(Side::Network, "ConfineNetwork".into()));
    let hooks = || Some(Fault::Overlook(Side::Spawner, "AttachHooks".into()));
    for (left_out, cgroup, elsewhere) in
        [(None, true, STOPPED), (hooks(), true, STOPPED), (rules(), true, STOPPED), (rules(), false, "sent")]
    {
        let what = format!("without {left_out:?}, with a cgroup: {cgroup}");
        // Where there is no cgroup there are no hooks either.
        let mut bench = if cgroup { Bench::new(left_out) } else { Bench::without_cgroup(left_out) };
        if cgroup && bench.cgroup.is_none() {
            println!("# skipped: this machine has no cgroup v2");
            continue;
        }
        let mut plan = plan(&["datagrams"]);
        plan.syscalls.network = true;
        let (spawned, output) = bench.spawn(&plan).unwrap();
        assert_eq!(spawned.report.missing.contains(&Layer::Hooks), !cgroup, "{what}");
        let network = File::open(format!("/proc/{}/ns/net", spawned.report.payload_pid)).unwrap();
        let ways = std::thread::spawn(move || {
            setns(&network, CloneFlags::CLONE_NEWNET).unwrap();
            loopback_up().unwrap();
            local_route("192.0.2.0".parse().unwrap(), 24).unwrap();
            local_route(NAMES_V4.0.into(), NAMES_V4.1).unwrap();
        });
        ways.join().unwrap();
        let mut said = String::new();
        File::from(output).read_to_string(&mut said).unwrap();
        assert_eq!(wait(&spawned), 0);
        assert_eq!(said, format!("{NAME}: sent\n{ELSEWHERE}: {elsewhere}\n"), "{what}");
        bench.client.retire(plan.slot, plan.aid).unwrap();
        bench.assert_nothing_is_left(&plan);
    }
}

/// On a machine of the test's own: what its PID 1 would have loaded of nf_tables.
pub(crate) fn load_modules() {
    let release = nix::sys::utsname::uname().unwrap().release().to_str().unwrap().to_owned();
    let dir = Path::new("/lib/modules").join(release);
    let dependencies = std::fs::read_to_string(dir.join("modules.dep")).unwrap_or_default();
    let lines = dependencies.lines().filter_map(|line| line.split_once(':'));
    for (file, needs) in lines.filter(|(file, _)| file.ends_with("/nf_tables.ko")) {
        for file in needs.split_whitespace().rev().chain([file]) {
            let module = File::open(dir.join(file)).unwrap();
            finit_module(&module, c"", ModuleInitFlags::empty()).unwrap();
        }
    }
}
