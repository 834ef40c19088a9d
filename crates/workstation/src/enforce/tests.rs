//! The list of steps against a kernel that is not there: every call recorded, any of them failed.

use super::*;
use crate::disks::{Disk, DiskError};
use crate::kernel::Side;
use crate::plan::tests::sample;
use crate::readback::Observed;
use std::collections::VecDeque;

/// Records, fails the n-th call, and counts what was made and not removed.
#[derive(Debug, Default)]
struct Fake {
    fail: Option<usize>,
    calls: Vec<String>,
    leaves: i32,
    processes: i32,
    words: VecDeque<Vec<u8>>,
    no_controllers: bool,
    no_io: bool,
    boundless: bool,
}

impl Fake {
    fn new(fail: Option<usize>) -> Self {
        let ready = |role| vec![b'R', role];
        Self { fail, words: [ready(1), ready(0), vec![]].into(), ..Self::default() }
    }

    fn note(&mut self, what: String) -> io::Result<()> {
        self.calls.push(what);
        if self.fail == Some(self.calls.len()) { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    }
}

fn null() -> OwnedFd {
    std::fs::File::open("/dev/null").unwrap().into()
}

impl Kernel for Fake {
    fn call(&mut self, call: &Call<'_>) -> io::Result<Option<OwnedFd>> {
        if let Call::RemoveLeaf { .. } = call {
            self.leaves -= 1;
            return Ok(None);
        }
        self.note(format!("{call:?}").split([' ', '(']).next().unwrap_or_default().to_owned())?;
        match call {
            Call::Limit { .. } | Call::LimitDisk { .. } if self.no_controllers => {
                return Err(io::ErrorKind::NotFound.into());
            }
            Call::LimitDisk { .. } if self.no_io => return Err(io::ErrorKind::NotFound.into()),
            Call::MakeLeaf { .. } => self.leaves += 1,
            _ => {}
        }
        let gives = matches!(
            call,
            Call::CloneTree { .. }
                | Call::OwnerMap { .. }
                | Call::NewFilesystem { .. }
                | Call::Listen { .. }
                | Call::MakeLeaf { .. }
                | Call::OpenNull
                | Call::OpenProc
                | Call::OpenMaster { .. }
                | Call::OpenTerminal { .. }
                | Call::Place { .. }
        );
        Ok(gives.then(null))
    }

    fn clone_workstation(
        &mut self,
        _: &CloneArgs<'_>,
        _: BorrowedFd<'_>,
        _used_up: Redeemed,
    ) -> io::Result<Cloned> {
        self.fork()
    }

    fn new_network(&mut self) -> io::Result<OwnedFd> {
        self.note("new_network".into())?;
        Ok(null())
    }

    fn fork(&mut self) -> io::Result<Cloned> {
        self.note("clone3".into())?;
        self.processes += 1;
        Ok(Cloned::Parent { pid: 42, pidfd: null() })
    }

    fn send(&mut self, _: BorrowedFd<'_>, _: &[u8]) -> io::Result<()> {
        self.note("send".into())
    }

    fn receive(&mut self, _: BorrowedFd<'_>, buffer: &mut [u8], within_ms: i32) -> io::Result<(usize, i32)> {
        self.note("receive".into())?;
        let word = if within_ms < 0 { GO.to_vec() } else { self.words.pop_front().unwrap() };
        buffer[..word.len()].copy_from_slice(&word);
        Ok((word.len(), if word.get(1) == Some(&1) { 43 } else { 42 }))
    }

    fn kill(&mut self, _: BorrowedFd<'_>, _: Option<BorrowedFd<'_>>) -> io::Result<()> {
        self.processes -= 1;
        Ok(())
    }

    fn disks(&mut self, plan: &Plan, _: &[OwnedFd]) -> Result<Vec<Disk>, DiskError> {
        if self.boundless {
            return Err(DiskError::Boundless { path: plan.binds[0].source.clone(), why: "none" });
        }
        Ok(vec![Disk { major: 8, minor: 0 }])
    }

    fn entries(&mut self, _: BorrowedFd<'_>) -> io::Result<Vec<crate::kernel::Entry>> {
        self.note("entries".into())?;
        let entry = |name: &str, is_dir, is_link| crate::kernel::Entry { name: name.into(), is_dir, is_link };
        let shown = [("1", true, false), ("self", false, true), ("meminfo", false, false)];
        Ok([("kcore", false, false), ("sys", true, false)]
            .into_iter()
            .chain(shown)
            .map(|(name, is_dir, is_link)| entry(name, is_dir, is_link))
            .collect())
    }

    fn observe(&mut self, role: Role, pid: u32) -> io::Result<Observed> {
        self.note("observe".into())?;
        assert_eq!(pid, if role == Role::Reaper { 42 } else { 43 });
        let mut seen = crate::readback::tests::as_planned(&sample(), role);
        let number = nix::sys::stat::fstat(null()).unwrap().st_ino;
        seen.namespaces.iter_mut().filter(|row| row.0 == "net").for_each(|row| row.1 = number);
        Ok(seen)
    }

    fn are_attached(&mut self, _: &Hooks, _: BorrowedFd<'_>) -> io::Result<bool> {
        Ok(true)
    }

    fn network_is_confined(&mut self, _: BorrowedFd<'_>) -> io::Result<bool> {
        self.note("network".into())?;
        Ok(true)
    }
}

struct Stage {
    parent: OwnedFd,
    octant: OwnedFd,
    devices: Vec<OwnedFd>,
    own: Vec<(String, u64)>,
    owners: Owners,
    tickets: Tickets,
}

impl Stage {
    fn new() -> Self {
        let parent = std::fs::File::open("/").unwrap().into();
        let devices = DEVICES.iter().map(|_| null()).collect();
        let (owners, tickets) = (Owners::default(), Tickets::new(Err("no keys".into()), 0));
        Self { parent, octant: null(), devices, own: vec![], owners, tickets }
    }

    fn site(&self, cgroup: bool) -> Site<'_> {
        let empty: Rc<[Instruction]> = Vec::new().into();
        let filters = Filters {
            profile: Rc::clone(&empty),
            fallbacks: Rc::clone(&empty),
            reaper: Rc::clone(&empty),
            floor: empty,
            digest: "00".into(),
        };
        Site {
            agents_cgroup: cgroup.then(|| self.parent.as_fd()),
            accept_missing: &[],
            devices: &self.devices,
            octant: self.octant.as_fd(),
            agents_uid: 968,
            filters,
            landlock_abi: 6,
            own_namespaces: &self.own,
            tickets: &self.tickets,
            caller: None,
            hooks: Err("a test has none"),
            owners: &self.owners,
        }
    }
}

fn granted(plan: &Plan) -> Granted {
    let sources = plan.binds.iter().map(|_| null()).collect();
    Granted { sources, snapshot: None, stdin: None, stdout: null(), stderr: null(), stopped: None }
}

/// The cgroup's list of processes cannot be faked through a descriptor, so the walks are without one; the leaf has
/// its own below.
fn attempt(fake: &mut Fake, cgroup: bool) -> Made<Standing> {
    let (mut plan, stage) = (sample(), Stage::new());
    let mut site = stage.site(cgroup);
    if !cgroup {
        plan.accept_missing = vec![Layer::Cgroup];
        site.accept_missing = &[Layer::Cgroup];
    }
    let redeemed = crate::tickets::tests::redeemed(&plan.to_bytes().unwrap());
    spawn(fake, &plan, redeemed, &site, granted(&plan), None)
}

#[test]
fn a_spawn_reports_what_was_read_back() {
    let mut fake = Fake::new(None);
    let running = attempt(&mut fake, false).unwrap();
    assert_eq!((running.pid, running.report.payload_pid), (42, 43));
    assert_eq!(running.report.missing, [Layer::Cgroup]);
    assert_eq!(running.report.uid_base, sample().uid_base().unwrap());
    assert_eq!(fake.processes, 1);
    // The release comes after both processes were read back.
    let at = |what: &str| fake.calls.iter().rposition(|call| call == what).unwrap();
    assert!(at("send") > at("observe"));
}

#[test]
fn every_call_that_fails_names_its_step_and_leaves_nothing() {
    let mut whole = Fake::new(None);
    attempt(&mut whole, false).unwrap();
    for n in 1..=whole.calls.len() {
        let mut fake = Fake::new(Some(n));
        let error = attempt(&mut fake, false).unwrap_err();
        assert_eq!((fake.leaves, fake.processes), (0, 0), "call {n}, {}: {error}", whole.calls[n - 1]);
        assert_eq!(error.errno, 5, "{error}");
        assert!(!error.text.is_empty());
    }
}

#[test]
fn every_call_inside_that_fails_names_its_step() {
    let (plan, stage) = (sample(), Stage::new());
    let site = stage.site(false);
    let users = Users::Range(plan.uid_base().unwrap());
    let walk = |fail: Option<usize>, side: Side| {
        let mut fake = Fake::new(fail);
        let channel = null();
        let done = match side {
            Side::Spawner | Side::Network | Side::Reaper => {
                let trees = vec![Tree { fd: null(), target: "/srv".into() }];
                let masks = vec![Tree { fd: null(), target: "/proc/sys".into() }];
                let prepared =
                    Prepared { root: null(), trees, masks, socket: null(), models: None, terminal: None };
                let terminal = channel.as_fd();
                let channel = channel.as_fd();
                crate::inside::compose(&mut fake, &plan, users, prepared, Some(terminal), channel).map(drop)
            }
            Side::Payload => crate::inside::confine_payload(&mut fake, &plan, &site, users, channel.as_fd()),
        };
        (done, fake.calls)
    };
    for side in [Side::Reaper, Side::Payload] {
        let (done, calls) = walk(None, side);
        assert_eq!(done, Ok(()));
        for n in 1..=calls.len() {
            let (done, made) = walk(Some(n), side);
            assert_eq!(done.unwrap_err().errno, 5, "{side:?} call {n}, {}", calls[n - 1]);
            assert_eq!(made.len(), n, "something was tried after the failure of {}", calls[n - 1]);
        }
    }
}

#[test]
fn the_agent_gives_up_in_the_only_order_that_works() {
    let (plan, stage) = (sample(), Stage::new());
    let mut fake = Fake::new(None);
    let users = Users::Range(plan.uid_base().unwrap());
    crate::inside::confine_payload(&mut fake, &plan, &stage.site(false), users, null().as_fd()).unwrap();
    let steps = [
        "DropBounding",
        "LockSecurebits",
        "Become",
        "DropCapabilities",
        "NotDumpable",
        "NoNewPrivs",
        "Landlock",
        "CloseFrom",
        "Rlimit",
        "InstallFilter",
        "InstallFilter",
        "InstallFilter",
        "send",
        "receive",
    ];
    let start = fake.calls.iter().position(|call| call == steps[0]).unwrap();
    let found: Vec<&str> =
        fake.calls[start..].iter().map(String::as_str).filter(|call| *call != "ChangeDir").collect();
    assert_eq!(found, steps);
}

#[test]
fn a_leaf_without_controllers_is_refused_and_removed() {
    let mut fake = Fake { no_controllers: true, ..Fake::new(None) };
    let error = attempt(&mut fake, true).unwrap_err();
    assert_eq!(error.step, Step::Cgroup);
    assert!(error.text.contains("layer cgroup"), "{error}");
    assert_eq!((fake.leaves, fake.processes), (0, 0));
    // With the controllers, each failing write removes it again.
    for n in 1..200 {
        let mut fake = Fake::new(Some(n));
        let error = attempt(&mut fake, true).unwrap_err();
        assert_eq!((fake.leaves, fake.processes), (0, 0), "call {n}: {error}");
    }
}

#[test]
fn a_bound_on_disks_that_cannot_be_kept_is_refused_unless_that_is_accepted() {
    for mut fake in [Fake { no_io: true, ..Fake::new(None) }, Fake { boundless: true, ..Fake::new(None) }] {
        let error = attempt(&mut fake, true).unwrap_err();
        assert_eq!((error.step, fake.leaves, fake.processes), (Step::Cgroup, 0, 0), "{error}");
        assert!(error.text.contains("layer cgroup"), "{error}");
        let (mut plan, stage) = (sample(), Stage::new());
        plan.accept_missing = vec![Layer::Cgroup];
        let mut site = stage.site(true);
        site.accept_missing = &[Layer::Cgroup];
        let mut fake = Fake { no_io: fake.no_io, boundless: fake.boundless, ..Fake::new(None) };
        let mut missing = Vec::new();
        assert!(make_leaf(&mut fake, &plan, &site, &[], &mut missing).unwrap().is_some());
        assert_eq!(missing, [Layer::Cgroup]);
    }
}

#[test]
fn a_state_that_disagrees_kills_before_the_release() {
    let mut fake = Fake::new(None);
    // The words come in order, but both processes are the reaper's, so the agent's own never speaks.
    fake.words = [vec![b'R', 0], vec![]].into();
    let error = attempt(&mut fake, false).unwrap_err();
    assert_eq!(error.step, Step::Handshake);
    assert_eq!(fake.processes, 0);
    let mut fake = Fake::new(None);
    fake.words = [[b'F']
        .into_iter()
        .chain(Step::Pivot.number().to_le_bytes())
        .chain([22, 0, 0, 0])
        .chain(*b"x")
        .collect()]
    .into();
    let error = attempt(&mut fake, false).unwrap_err();
    assert_eq!((error.step, error.errno, error.text.as_str()), (Step::Pivot, 22, "x"));
}

#[test]
fn one_user_is_a_missing_layer_that_has_to_be_accepted() {
    let (mut plan, stage) = (sample(), Stage::new());
    plan.accept_missing = vec![Layer::Cgroup];
    let mut site = stage.site(false);
    (site.caller, site.accept_missing) = (Some(Users::One), &[Layer::Cgroup, Layer::Users, Layer::Memfd]);
    let refused = |plan: &Plan, site: &Site<'_>| {
        let mut fake = Fake::new(None);
        let redeemed = crate::tickets::tests::redeemed(&plan.to_bytes().unwrap());
        let error = spawn(&mut fake, plan, redeemed, site, granted(plan), None).unwrap_err();
        assert_eq!(fake.calls, [""; 0], "nothing is made");
        error
    };
    let error = refused(&plan, &site);
    assert!(error.step == Step::IdMap && error.text.contains("layer users"), "{error}");
    plan.accept_missing.extend([Layer::Users, Layer::Memfd]);
    site.accept_missing = &[Layer::Cgroup];
    assert_eq!(refused(&plan, &site).step, Step::IdMap, "both sides have to");
    site.accept_missing = &[Layer::Cgroup, Layer::Users];
    assert!(refused(&plan, &site).text.contains("layer memfd"), "each by its name");
}

#[test]
fn a_terminal_needs_one_that_it_stands_for() {
    let (mut plan, stage) = (sample(), Stage::new());
    plan.stdio = Stdio::Terminal;
    plan.accept_missing = vec![Layer::Cgroup];
    let mut site = stage.site(false);
    site.accept_missing = &[Layer::Cgroup];
    let mut fake = Fake::new(None);
    let redeemed = crate::tickets::tests::redeemed(&plan.to_bytes().unwrap());
    let error = spawn(&mut fake, &plan, redeemed, &site, granted(&plan), None).unwrap_err();
    assert_eq!((error.step, fake.processes), (Step::Request, 0), "{error}");
}
