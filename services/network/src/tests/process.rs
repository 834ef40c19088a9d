//! The service as PID 1 starts it: its user, its capabilities, its profile, in a network with a DHCP server.

use super::{World, apart};
use crate::NetworkService;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, chown, dup};
use octant_api::boot::{BootConfig, Mode};
use octant_api::network::{NetworkStatus, RenewRequest, StatusRequest};
use octant_ids::Layout;
use octant_wire::blocking::Client;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

const CHILD: &str = "OCTANT_NETWORK_SERVICE_CHILD";
const USER: u32 = 970;
const CAPS: &str = "+net_admin,+net_bind_service,+sys_time";

/// Not a test of its own: the process that the test below starts.
#[test]
fn child_that_is_the_service() {
    if std::env::var_os(CHILD).is_some() {
        assert_eq!(octant_service::run::<NetworkService>(), ExitCode::SUCCESS);
    }
}

/// It does not outlive its test, also when that fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn start(world: &World, layout: &Layout, listener: &UnixListener) -> Running {
    let boot = BootConfig {
        layout: layout.clone(),
        boot_id: "0".repeat(32),
        mode: Mode::Machine,
        operator: 0,
        accept_missing: Vec::new(),
        agents_cgroup: None,
        hardware: Default::default(),
        sole_caller: None,
        landlock_unreported: None,
        service: serde_json::json!({"links": {"a": {}}}),
    };
    let mut config = File::from(memfd_create(c"config", MFdFlags::MFD_CLOEXEC).unwrap());
    config.write_all(&boot.to_json().unwrap()).unwrap();
    let kept = [listener.as_fd(), config.as_fd()].map(|fd| dup(fd).unwrap());
    let [socket, config] = kept.each_ref().map(AsRawFd::as_raw_fd);
    let script = format!(
        "export LISTEN_PID=$$; exec setpriv --reuid {USER} --regid {USER} --clear-groups \
         --inh-caps=-all,{CAPS} --ambient-caps=-all,{CAPS} \
         --bounding-set=-all,{CAPS} \
         \"$0\" --exact tests::process::child_that_is_the_service --nocapture 3<&{socket} 4<&{config}"
    );
    let child = Command::new("bash")
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .env(CHILD, "1")
        .env("LISTEN_FDS", "2")
        .env("LISTEN_FDNAMES", "socket:config")
        .env("NOTIFY_SOCKET", world.dir.join("notify"))
        .env("WATCHDOG_USEC", "3000000")
        .stdout(Stdio::null())
        .stderr(File::create(world.dir.join("log")).unwrap())
        .spawn()
        .unwrap();
    Running(child)
}

fn until(layout: &Layout, log: &dyn Fn() -> String, so: impl Fn(&NetworkStatus) -> bool) -> NetworkStatus {
    for _ in 0..600 {
        let mut client = Client::connect(&layout.socket("network")).unwrap();
        let status = client.call(&StatusRequest {}).unwrap_or_else(|error| panic!("{error}; log: {}", log()));
        if so(&status) {
            return status;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("log: {}", log());
}

#[test]
fn with_its_capabilities_and_in_its_profile_it_does_its_work() {
    apart("process", |world| {
        let layout = Layout::under(&world.dir);
        let state = layout.state_of("network");
        let shown = layout.run.join("network");
        for dir in [&state, &shown] {
            fs::create_dir_all(dir).unwrap();
            chown(dir, Some(Uid::from_raw(USER)), Some(Gid::from_raw(USER))).unwrap();
        }
        let listener = UnixListener::bind(layout.socket("network")).unwrap();
        let notify = UnixDatagram::bind(world.dir.join("notify")).unwrap();
        fs::set_permissions(world.dir.join("notify"), Permissions::from_mode(0o666)).unwrap();
        notify.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let log = || fs::read_to_string(world.dir.join("log")).unwrap_or_default();
        let mut child = start(&world, &layout, &listener);
        let heard = |wanted: &str| loop {
            let mut buffer = [0; 1024];
            let length =
                notify.recv(&mut buffer).unwrap_or_else(|error| panic!("{wanted}: {error}; log: {}", log()));
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.lines().any(|line| line.starts_with(wanted)) {
                return text;
            }
        };
        heard("READY=1");
        let now = until(&layout, &log, |now| super::has(now, "192.0.2.50/24"));
        assert!(now.links[0].trouble.is_none() && !now.links[0].gateways.is_empty(), "{now:?}");
        assert!(fs::read_to_string(shown.join("resolv.conf")).unwrap().contains("nameserver 192.0.2.53"));
        assert_eq!(fs::read_to_string(state.join("addresses")).unwrap(), "a 192.0.2.50\n");
        let mut client = Client::connect(&layout.socket("network")).unwrap();
        assert_eq!(client.call(&RenewRequest { link: None }).unwrap().links, ["a"]);
        assert!(client.call(&RenewRequest { link: Some("b".into()) }).is_err());
        // Nobody takes its records here, and it says so.
        assert!(heard("X_OCTANT_HEALTH=").contains("ledger"));

        let task = format!("/proc/{}/task", child.0.id());
        let statuses =
            fs::read_dir(task).unwrap().map(|task| fs::read_to_string(task.unwrap().path().join("status")));
        let statuses: Vec<String> = statuses.map(Result::unwrap).collect();
        // CAP_NET_BIND_SERVICE is 10, CAP_NET_ADMIN 12, CAP_SYS_TIME 25.
        assert!(statuses.iter().all(|status| status.contains("CapEff:\t0000000002001400")), "{statuses:?}");
        let confined = |status: &&String| status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2");
        assert!(statuses.iter().filter(confined).count() >= 1, "{statuses:?}");
        kill(Pid::from_raw(child.0.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        let status = child.0.wait().unwrap();
        assert!(status.success(), "{status}: {}", log());
    });
}
