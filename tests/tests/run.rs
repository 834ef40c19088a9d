//! `octant run`: a program in a workstation on a developer's machine, as root and as an ordinary user.
//!
//! The attacks are made by the shell inside, and judged outside by what is left in the directory.

use octant_tests::environment::{Scratch, binary};
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Anybody who is not root: Debian's nobody, who needs no account for this.
const NOBODY: u32 = 65_534;
/// The host of these tests may have no controllers; what limits do is tested in the guest.
const ACCEPT: &str = "--accept-missing=cgroup";

/// A person's directory with a project, in which the person's key and record are too.
struct Desk {
    scratch: Scratch,
    user: u32,
}

/// Both kinds of people: what holds for one holds for the other.
fn desks(name: &str) -> [Desk; 2] {
    [0, NOBODY].map(|user| Desk::new(&format!("run-{name}-{user}"), user))
}

impl Desk {
    fn new(name: &str, user: u32) -> Self {
        let desk = Self { scratch: Scratch::new(name), user };
        for dir in ["home", "project"] {
            let path = desk.scratch.path(dir);
            fs::create_dir(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            chown(&path, Some(user), Some(user)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        }
        // The build's own directory is not for everybody.
        fs::hard_link(binary(), desk.program())
            .or_else(|_| fs::copy(binary(), desk.program()).map(drop))
            .unwrap_or_else(|e| panic!("{}: {e}", desk.program().display()));
        desk
    }

    fn program(&self) -> PathBuf {
        self.scratch.path("octant")
    }

    fn project(&self) -> PathBuf {
        self.scratch.path("project")
    }

    fn record(&self) -> PathBuf {
        self.scratch.path("home/.local/state/octant/run")
    }

    /// A command of this person, in the project.
    fn command(&self, program: &Path) -> Command {
        self.command_by(Command::new("setpriv"), &["--clear-groups"], program)
    }

    /// The same with what `setpriv` is told besides.
    fn command_by(&self, mut command: Command, told: &[&str], program: &Path) -> Command {
        let user = self.user.to_string();
        command.args(["--reuid", &user, "--regid", &user]).args(told);
        command.args(["timeout", "--kill-after=5", "60"]);
        let home = self.scratch.path("home");
        command.arg(program).current_dir(self.project()).env_clear().env("PATH", "/usr/bin:/bin");
        command.env("TERM", "dumb").env("HOME", &home);
        command.env("XDG_CONFIG_HOME", home.join(".config")).env("XDG_STATE_HOME", home.join(".local/state"));
        command
    }

    fn octant(&self, args: &[&str]) -> Output {
        let output = self.command(&self.program()).args(args).stdin(Stdio::null()).output();
        output.unwrap_or_else(|e| panic!("setpriv: {e}"))
    }

    fn run(&self, args: &[&str]) -> Output {
        self.octant(&[&["run", ACCEPT], args].concat())
    }

    /// A script for the host's shell.
    fn shell(&self, script: &str) -> Output {
        self.run(&["--", "sh", "-c", script])
    }

    /// The same outside, as the same person.
    fn outside(&self, script: &str) -> Output {
        let output = self.command(Path::new("/bin/sh")).args(["-c", script]).output();
        output.unwrap_or_else(|e| panic!("setpriv: {e}"))
    }

    fn left(&self, dir: &str) -> Vec<String> {
        let dir = self.project().join(dir);
        let entries = fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        let mut names: Vec<String> =
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn ended(output: &Output, code: i32, stdout: &str) {
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(code), stdout), "{said}");
}

#[test]
fn a_program_runs_in_the_directory_and_its_exit_code_is_passed_on() {
    for desk in desks("plain") {
        fs::write(desk.project().join("there"), "x").unwrap_or_else(|e| panic!("{e}"));
        // `HEAD` stands there so that nothing inside can make a bare repository of the directory.
        ended(&desk.run(&["--", "ls"]), 0, "HEAD\nthere\n");
        ended(&desk.run(&["--", "false"]), 1, "");
        ended(&desk.run(&["--", "sh", "-c", "exit 42"]), 42, "");
        ended(&desk.run(&["--", "sh", "-c", "kill -TERM $$"]), 143, "");
        ended(&desk.run(&["--", "no-such-command"]), 127, "");
        ended(
            &desk.shell("pwd; id -u; echo made > made; sleep 0.1 & wait; echo $HOME"),
            0,
            "/workspace\n1000\n/tmp\n",
        );
        let made = fs::metadata(desk.project().join("made")).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(made.uid(), desk.user, "what it makes is the person's");
        assert_eq!(desk.left(""), ["made", "there"], "nothing else is left");
    }
}

#[test]
fn pipes_and_files_are_passed_through_and_a_directory_is_not() {
    for desk in desks("pipes") {
        let mut command = desk.command(&desk.program());
        command.args(["run", ACCEPT, "--", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{e}"));
        let mut stdin = child.stdin.take().unwrap_or_else(|| unreachable!("it is piped"));
        stdin.write_all(b"hi\n").unwrap_or_else(|e| panic!("{e}"));
        drop(stdin);
        ended(&child.wait_with_output().unwrap_or_else(|e| panic!("{e}")), 0, "hi\n");

        let octant = desk.program().display().to_string();
        let script = format!("{octant} run {ACCEPT} -- sh -c 'cat; echo e >&2' < in > out 2>> err; cat out");
        fs::write(desk.project().join("in"), "from a file\n").unwrap_or_else(|e| panic!("{e}"));
        ended(&desk.outside(&script), 0, "from a file\n");

        // Through a directory's descriptor a program would get to everything that lies beside it.
        let output = desk.outside(&format!("{octant} run {ACCEPT} -- ls /proc/self/fd/0/.. < /"));
        ended(&output, 2, "");
        assert!(text(&output.stderr).contains("is a directory"), "{}", text(&output.stderr));
    }
}

#[test]
fn a_socket_stays_outside_and_what_it_carries_goes_through() {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    for desk in desks("socket") {
        let pair = || UnixStream::pair().unwrap_or_else(|e| panic!("{e}"));
        let ((mut input, given), (mut output, written)) = (pair(), pair());
        let mut command = desk.command(&desk.program());
        command.args([
            "run",
            ACCEPT,
            "--",
            "sh",
            "-c",
            "readlink /proc/self/fd/0 /proc/self/fd/1 | tr -d 0-9; cat",
        ]);
        command.stdin(OwnedFd::from(given)).stdout(OwnedFd::from(written)).stderr(Stdio::null());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{e}"));
        drop(command);
        input.write_all(b"through\n").unwrap_or_else(|e| panic!("{e}"));
        drop(input);
        let mut read = String::new();
        output.read_to_string(&mut read).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(read, "pipe:[]\npipe:[]\nthrough\n");
        assert!(child.wait().unwrap_or_else(|e| panic!("{e}")).success());
    }
}

#[test]
fn a_manifest_of_ones_own_decides_and_another_persons_does_not() {
    for desk in desks("manifest") {
        let octant = desk.program().display().to_string();
        let made = desk.outside(&format!(
            "{octant} manifest new own --role admin --operator uid-{user} --profile shell --workspace . \
             -- ls /workspace > m.toml && {octant} manifest keygen other --role admin --into . \
             && {octant} manifest sign m.toml --key other.key -o other.json",
            user = desk.user
        ));
        assert!(made.status.success(), "{}", text(&made.stderr));
        let output = desk.run(&["--manifest", "m.toml", "--", "sh", "-c", "echo mine"]);
        ended(&output, 0, "mine\n");
        let output = desk.run(&["--manifest", "m.toml"]);
        assert!(text(&output.stdout).contains("m.toml"), "{}", text(&output.stderr));
        ended(&desk.run(&["--manifest", "other.json"]), 7, "");
        let script = "printf '#!/bin/sh\\necho built\\n' > built && chmod +x built";
        ended(&desk.outside(script), 0, "");
        ended(&desk.run(&["--", "./built"]), 0, "built\n");
        // A shell's own code for what may not be executed: the profile says so.
        ended(&desk.run(&["--profile", "shell", "--", "./built"]), 6, "");
        ended(&desk.shell("./built 2>/dev/null"), 126, "");
    }
}

impl Desk {
    /// A script for the shell inside, where this person has a range of sub-ids and one more group.
    fn with_sub_ids(&self, told: &[&str], script: &str) -> Output {
        let ranges = self.scratch.path("ranges");
        fs::write(&ranges, "root:100000:65536\nnobody:700000:65536\n").unwrap_or_else(|e| panic!("{e}"));
        let mount =
            "mount --bind \"$0\" /etc/subuid && mount --bind \"$0\" /etc/subgid && exec setpriv \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", mount]).arg(&ranges);
        let told = [&["--groups", "65534,4242"], told].concat();
        let mut command = self.command_by(command, &told, &self.program());
        let output = command.args(["run", ACCEPT, "--", "sh", "-c", script]).stdin(Stdio::null()).output();
        output.unwrap_or_else(|e| panic!("unshare: {e}"))
    }
}

#[test]
fn with_sub_ids_an_ordinary_user_has_a_range_of_users_and_no_groups() {
    let desk = Desk::new("run-subids", NOBODY);
    let script = "id -u; cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '; grep Groups: /proc/self/status | tr -d '\t '\n\
                  echo x > made; setpriv --reuid 0 true 2> no || echo stays";
    let output = desk.with_sub_ids(&[], script);
    let map = " 0 1 1000\n 1000 0 1\n 1001 1001 64535\n";
    ended(&output, 0, &format!("1000\n{map}{map}Groups:\nstays\n"));
    let said = text(&output.stderr);
    assert!(!said.contains("layer users") && said.contains("layer memfd"), "{said}");
    let made = fs::metadata(desk.project().join("made")).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((made.uid(), made.gid()), (NOBODY, NOBODY));
    // Where the program that maps them cannot do that, the layer is missing and the reason is said.
    let output = desk.with_sub_ids(&["--no-new-privs"], "id -u; cat /proc/self/uid_map | tr -s ' '");
    ended(&output, 0, "1000\n 1000 0 1\n");
    let said = text(&output.stderr);
    assert!(said.contains("layer users") && said.contains("newuidmap"), "{said}");
}

#[test]
fn what_is_missing_is_refused_or_named_and_on_record() {
    for desk in desks("missing") {
        let controllers = desk.outside("grep -qw memory /sys/fs/cgroup/cgroup.controllers").status.success();
        if !controllers {
            let output = desk.octant(&["run", "--", "ls"]);
            ended(&output, 8, "");
            let said = text(&output.stderr);
            assert!(said.contains("layer cgroup") && said.contains("--accept-missing=cgroup"), "{said}");
            assert!(
                !desk.record().join("ledger/segments").exists(),
                "nothing was started, nothing is on record"
            );
        }
        let output = desk.run(&["--", "true"]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert_eq!(said.contains("layer users"), desk.user != 0, "{said}");
        let log = fs::read(desk.record().join("ledger/segments/00000000000000000001.log"));
        let log = text(&log.unwrap_or_else(|e| panic!("{e}")));
        assert_eq!(log.contains("\"users\""), desk.user != 0, "in the record too");
    }
}

#[test]
fn the_record_verifies_what_was_signed_is_beside_it_and_a_change_is_noticed() {
    for desk in desks("record") {
        for _ in 0..2 {
            ended(&desk.run(&["--", "true"]), 0, "");
        }
        let key = desk.scratch.path("home/.config/octant/developer.key");
        let mode = fs::metadata(&key).unwrap_or_else(|e| panic!("{e}")).permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let signed: Vec<_> = fs::read_dir(desk.record().join("manifests"))
            .unwrap_or_else(|e| panic!("{e}"))
            .flatten()
            .collect();
        // What is signed in the same second is the same.
        assert!((1..=2).contains(&signed.len()), "{signed:?}");
        let record = desk.record().display().to_string();
        let output = desk.octant(&["ledger", "verify", &record]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(text(&output.stdout).starts_with("14 entries in 1 segments"), "{}", text(&output.stdout));

        let segment = desk.record().join("ledger/segments/00000000000000000001.log");
        let mut bytes = fs::read(&segment).unwrap_or_else(|e| panic!("{e}"));
        let at =
            bytes.windows(9).position(|part| part == b"/usr/bin/").unwrap_or_else(|| panic!("no program"));
        bytes[at + 1] = b'U';
        fs::write(&segment, bytes).unwrap_or_else(|e| panic!("{e}"));
        let output = desk.octant(&["ledger", "verify", &record]);
        assert_eq!(output.status.code(), Some(7), "{}", text(&output.stdout));
        // Nothing is started that cannot be put on record.
        ended(&desk.run(&["--", "touch", "made"]), 1, "");
        assert_eq!(desk.left(""), [""; 0]);
    }
}

/// Each is tried inside, in a repository; none may work.
const ATTACKS: [&str; 30] = [
    "echo x > .git/hooks/pre-commit",
    "echo x > .git/hooks/new",
    "rm .git/hooks/pre-commit",
    "mv .git/hooks .git/h",
    "rm -rf .git/hooks",
    "ln -sfn /tmp .git/hooks",
    "echo x >> .git/config",
    "mv .git/config .git/c",
    "rm -f .git/config",
    "ln .git/config .git/c",
    "echo x > .git/config.lock && mv .git/config.lock .git/config",
    "git config core.fsmonitor ./evil",
    "git config --worktree core.fsmonitor ./evil",
    "echo x > .git/config.worktree",
    "rmdir .git/config.worktree",
    "rm -f .git/commondir",
    "echo ../evil > .git/commondir",
    "mv .git .g",
    "mkdir e && mv -T e .git",
    "mv .git e/",
    "echo x > .envrc",
    "rmdir .envrc",
    "mv .envrc .e",
    "echo x > .vscode/tasks.json",
    "mv .vscode v",
    "mkdir .idea/x",
    "ln -sfn /tmp .idea",
    "echo x > .claude/settings.json",
    "echo x >> .pre-commit-config.yaml",
    "umount .git/config || mount -o remount,rw,bind .git/config",
];

#[test]
fn what_runs_later_outside_cannot_be_changed_replaced_or_made() {
    for desk in desks("guard") {
        let made = desk.outside(
            "git init -q . && printf '#!/bin/sh\\n' > .git/hooks/pre-commit && echo x > .pre-commit-config.yaml \
             && cat .git/config > ../home/config",
        );
        ended(&made, 0, "");
        let mut script =
            String::from("try() { if sh -c \"$1\" >/dev/null 2>&1; then echo \"worked: $1\"; fi; }\n");
        for attack in ATTACKS {
            script.push_str(&format!("try '{attack}'\n"));
        }
        script.push_str("rm -f .git/config.lock; rmdir e; echo tried");
        ended(&desk.shell(&script), 0, "tried\n");
        let same = desk
            .outside("cmp .git/config ../home/config && ls .git/hooks/new .git/commondir 2>/dev/null; true");
        ended(&same, 0, "");
        assert_eq!(desk.left(""), [".git", ".pre-commit-config.yaml"]);
        // And everyday work is none of it.
        let work = "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a; echo 1 > f \
                    && git add f && git commit -qm one && git checkout -qb b && git log --format=%s && git status --short";
        let output = desk.run(&["--profile", "compiler", "--", "sh", "-c", work]);
        assert!(
            text(&output.stdout).starts_with("one\n"),
            "{}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
    }
}

#[test]
fn where_there_is_no_repository_none_can_be_made_for_the_directory() {
    for desk in desks("bare") {
        let script = "git init -q . 2>/dev/null && echo made; mkdir objects refs; echo 'ref: refs/heads/x' > HEAD; \
                      rmdir objects refs; echo tried";
        let output = desk.shell(script);
        assert_eq!(text(&output.stdout), "tried\n", "{}", text(&output.stderr));
        assert_eq!(desk.left(""), [""; 0], "no placeholder is left");
    }
}

#[test]
fn a_file_that_is_replaced_outside_is_not_left_unguarded() {
    for desk in desks("replaced") {
        ended(&desk.outside("git init -q ."), 0, "");
        let mut command = desk.command(&desk.program());
        command.args(["run", ACCEPT, "--", "sh", "-c", "echo ready; sleep 50"]).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap_or_else(|e| panic!("{e}"));
        let mut ready = [0; 6];
        let stdout = child.stdout.as_mut().unwrap_or_else(|| unreachable!("it is piped"));
        stdout.read_exact(&mut ready).unwrap_or_else(|e| panic!("{e}"));
        // As git does it: a new file is renamed over the old one, and with that the mount inside is gone.
        ended(&desk.outside("git config user.name somebody"), 0, "");
        let output = child.wait_with_output().unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(output.status.code(), Some(137), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("replaced from outside"), "{}", text(&output.stderr));
    }
}

#[test]
fn nothing_of_the_host_but_usr_and_the_directory_is_there() {
    for desk in desks("host") {
        let secret = desk.scratch.path("secret");
        fs::write(&secret, "x").unwrap_or_else(|e| panic!("{e}"));
        let script = format!(
            "for path in {} /root /home /var /boot /etc/shadow /etc/machine-id; do test -e $path && echo $path; done; \
             touch /usr/x /etc/x /x 2>/dev/null && echo written; env | grep -c XDG; \
             echo > /dev/tcp/127.0.0.1/1 2>/dev/null && echo connected; kill -9 1; echo alive",
            secret.display()
        );
        let output = desk.run(&["--", "bash", "-c", &script]);
        ended(&output, 0, "0\nalive\n");
    }
}

#[test]
fn a_home_a_root_and_a_place_that_holds_the_key_are_no_workspaces() {
    for desk in desks("where") {
        for dir in [
            "/",
            &desk.scratch.path("home").display().to_string(),
            &desk.scratch.path("").display().to_string(),
        ] {
            let octant = desk.program().display().to_string();
            let output = desk.outside(&format!("cd {dir} && {octant} run {ACCEPT} -- ls"));
            ended(&output, 5, "");
            assert!(text(&output.stderr).contains("cannot be a workspace"), "{}", text(&output.stderr));
        }
    }
}

#[test]
fn when_the_supervisor_is_killed_nothing_runs_on() {
    for desk in desks("killed") {
        let mut command = desk.command(&desk.program());
        command.args(["run", ACCEPT, "--", "sh", "-c", "echo ready; exec sleep 50"]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{e}"));
        let mut stdout = child.stdout.take().unwrap_or_else(|| unreachable!("it is piped"));
        let mut ready = [0; 6];
        stdout.read_exact(&mut ready).unwrap_or_else(|e| panic!("{e}"));
        // `timeout` would pass a signal on; the process below it is the supervisor.
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id()));
        let supervisor = children.unwrap_or_else(|e| panic!("{e}"));
        let killed = Command::new("kill").args(["-KILL", supervisor.trim()]).status();
        assert!(killed.unwrap_or_else(|e| panic!("{e}")).success());
        // The other side of the pipe closes when the last process inside has ended.
        let mut rest = Vec::new();
        stdout.read_to_end(&mut rest).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(rest, b"");
        child.wait().unwrap_or_else(|e| panic!("{e}"));
        // And what it left in the project goes with the next run, which says in the record what became of it.
        ended(&desk.run(&["--", "true"]), 0, "");
        assert_eq!(desk.left(""), [""; 0]);
        let segment = desk.record().join("ledger/segments/00000000000000000001.log");
        let bytes = fs::read(&segment).unwrap_or_else(|e| panic!("{e}"));
        let told = |word: &str| bytes.windows(word.len()).filter(|part| *part == word.as_bytes()).count();
        assert_eq!((told("it was killed, and what it ran with it"), told("it was found dead")), (1, 1));
        let output = desk.octant(&["ledger", "verify", &desk.record().display().to_string()]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }
}

/// What is typed into a terminal on which a person's shell runs, and what it shows.
struct Typed {
    outside: fs::File,
    shell: std::process::Child,
    shown: String,
}

impl Typed {
    fn new(desk: &Desk) -> Self {
        Self::at(desk, &["bash", "--norc", "--noprofile", "-i"])
    }

    /// With this program in the place of the shell.
    fn at(desk: &Desk, program: &[&str]) -> Self {
        let devpts = fs::File::open("/dev/pts").unwrap_or_else(|e| panic!("/dev/pts: {e}"));
        let outside = octant_sys::console::open_master(devpts.as_fd()).unwrap_or_else(|e| panic!("{e}"));
        let inside = octant_sys::console::open_terminal(outside.as_fd()).unwrap_or_else(|e| panic!("{e}"));
        let copy = || Stdio::from(inside.try_clone().unwrap_or_else(|e| panic!("{e}")));
        let user = desk.user.to_string();
        // A session on the terminal, and then the person in it: a login.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"]);
        command.args(program);
        let home = desk.scratch.path("home");
        command.current_dir(desk.project()).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", &home);
        command
            .env("TERM", "dumb")
            .env("PS1", "outside> ")
            .env("OCTANT", desk.program())
            .env("ACCEPT", ACCEPT);
        command.env("XDG_CONFIG_HOME", home.join(".config")).env("XDG_STATE_HOME", home.join(".local/state"));
        chown(format!("/proc/self/fd/{}", inside.as_raw_fd()), Some(desk.user), None)
            .unwrap_or_else(|e| panic!("{e}"));
        let shell = command.stdin(copy()).stdout(copy()).stderr(copy()).spawn();
        let shell = shell.unwrap_or_else(|e| panic!("setsid: {e}"));
        Self { outside: outside.into(), shell, shown: String::new() }
    }

    fn send(&mut self, keys: &str) {
        self.outside.write_all(keys.as_bytes()).unwrap_or_else(|e| panic!("{e}"));
    }

    /// Reads on until this is shown, and gives what came up to its end; nothing if there is no more within this time.
    fn shows(&mut self, what: &str, within_ms: u16) -> Option<String> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        loop {
            if let Some(at) = self.shown.find(what) {
                return Some(self.shown.drain(..at + what.len()).collect());
            }
            let mut outside = [PollFd::new(self.outside.as_fd(), PollFlags::POLLIN)];
            if !matches!(poll(&mut outside, PollTimeout::from(within_ms)), Ok(1..)) {
                return None;
            }
            let mut buffer = [0; 4096];
            let len = self.outside.read(&mut buffer).unwrap_or_else(|e| panic!("{e} after:\n{}", self.shown));
            self.shown.push_str(&String::from_utf8_lossy(&buffer[..len]));
        }
    }

    /// Reads on until this is shown. A minute is only what ends a test that hangs.
    fn until(&mut self, what: &str) -> String {
        self.shows(what, 60_000).unwrap_or_else(|| panic!("no {what:?} in:\n{}", self.shown))
    }

    /// Types Ctrl-C until this is shown. In the moment in which a shell has written what it continues, and in which that
    /// has not begun what it was about to begin, one can be lost without Octant too; a person types it once more.
    fn interrupt(&mut self, what: &str) {
        let shown = (0..30).any(|_| {
            self.send("\x03");
            self.shows(what, 2_000).is_some()
        });
        assert!(shown, "no {what:?} in:\n{}", self.shown);
    }

    /// Types a line and reads on until this is shown, in what comes after the line itself.
    fn line(&mut self, line: &str, what: &str) -> String {
        self.send(&format!("{line}\n"));
        self.until("\n");
        self.until(what)
    }
}

impl Drop for Typed {
    fn drop(&mut self) {
        let _it_may_have_ended = self.shell.kill();
        let _it_is_killed = self.shell.wait();
    }
}

#[test]
fn a_terminal_inside_is_one_of_its_own_with_jobs_and_sizes() {
    for desk in desks("terminal") {
        let mut typed = Typed::new(&desk);
        typed.until("outside> ");
        typed.line("stty rows 31 cols 97; before=$(stty -g)", "outside> ");
        typed.line("$OCTANT run $ACCEPT -- bash --norc --noprofile", "bash-");
        typed.line("PS1='in''side> '", "inside> ");
        assert!(typed.line("tty; stty size", "inside> ").contains("/dev/pts/0\r\n31 97"));
        // Jobs of the shell inside.
        typed.line("sh -c 'echo run\"\"ning; exec sleep 1000'", "running");
        typed.send("\x1a");
        typed.until("Stopped");
        typed.until("inside> ");
        typed.line("fg", "sleep 1000");
        typed.interrupt("inside> ");
        assert!(typed.line("echo $?", "inside> ").contains("130"));
        // Another size of the window.
        let size = nix::pty::Winsize { ws_row: 20, ws_col: 60, ws_xpixel: 0, ws_ypixel: 0 };
        let small = nix::pty::openpty(Some(&size), None).unwrap_or_else(|e| panic!("{e}"));
        octant_sys::console::copy_size(small.slave.as_fd(), typed.outside.as_fd())
            .unwrap_or_else(|e| panic!("{e}"));
        typed.until("");
        assert!(typed.line("sleep 0.2; stty size", "inside> ").contains("20 60"));
        typed.line("exit 7", "outside> ");
        assert!(typed.line("echo $?", "outside> ").contains('7'));
        assert!(typed.line("[ \"$before\" = \"$(stty -g)\" ] && echo sa''me", "outside> ").contains("same"));

        // Without a shell inside, Ctrl-Z stops the whole, and the shell outside continues it.
        typed.line("$OCTANT run $ACCEPT -- sh -c 'echo run''ning; sleep 1000'", "running");
        typed.send("\x1a");
        typed.until("Stopped");
        typed.until("outside> ");
        typed.line("fg", "sleep 1000'");
        typed.interrupt("outside> ");
        assert!(typed.line("echo $?", "outside> ").contains("130"));
    }
}

/// As in the moment after a shell's `fg`: the terminal is this job's, and still in the modes of the shell.
#[test]
fn a_key_that_is_typed_before_the_terminal_is_read_again_reaches_the_job_in_front() {
    use nix::sys::signal::{Signal, kill};
    use nix::sys::termios::{SetArg, tcgetattr, tcsetattr};
    const WAITS: &str =
        "sh -c 'trap \"echo g\"\"ot; exit 3\" INT; echo run\"\"ning; while :; do sleep 0.1; done'";
    for desk in desks("key") {
        let octant = desk.program().display().to_string();
        let mut typed = Typed::at(&desk, &[&octant, "run", ACCEPT, "--", "bash", "--norc", "--noprofile"]);
        let cooked = tcgetattr(&typed.outside).unwrap_or_else(|e| panic!("{e}"));
        typed.until("bash-");
        typed.line("PS1='in''side> '", "inside> ");
        typed.line(WAITS, "running");
        // What `Typed` started has become this process by execve.
        let supervisor = nix::unistd::Pid::from_raw(typed.shell.id().cast_signed());
        kill(supervisor, Signal::SIGSTOP).unwrap_or_else(|e| panic!("{e}"));
        let stopped = || {
            let stat = fs::read_to_string(format!("/proc/{supervisor}/stat")).unwrap_or_default();
            stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
        };
        while !stopped() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        tcsetattr(&typed.outside, SetArg::TCSANOW, &cooked).unwrap_or_else(|e| panic!("{e}"));
        typed.send("\x03");
        typed.until("^C");
        kill(supervisor, Signal::SIGCONT).unwrap_or_else(|e| panic!("{e}"));
        typed.until("got");
        typed.until("inside> ");
        assert!(typed.line("echo $?", "inside> ").contains('3'));
    }
}

#[test]
fn nothing_can_be_put_into_the_terminal_outside() {
    const ATTACK: &str = "import fcntl, os, sys, termios\n\
        for path in [0, 1, 2, '/dev/tty', '/proc/self/fd/0']:\n\
        \x20   try:\n\
        \x20       fd = path if isinstance(path, int) else os.open(path, os.O_RDWR)\n\
        \x20       for c in b'echo evil\\n': fcntl.ioctl(fd, termios.TIOCSTI, bytes([c]))\n\
        \x20       print('put in through', path)\n\
        \x20   except OSError as e: print('denied', e.errno)\n\
        print(os.ttyname(0), 'tried')\n";
    for desk in desks("tiocsti") {
        fs::write(desk.project().join("attack.py"), ATTACK).unwrap_or_else(|e| panic!("{e}"));
        let mut typed = Typed::new(&desk);
        typed.until("outside> ");
        let said = typed.line("$OCTANT run $ACCEPT -- python3 attack.py", "outside> ");
        assert_eq!(said.matches("denied").count(), 5, "{said}");
        assert!(said.contains("/dev/pts/0 tried") && !said.contains("put in"), "{said}");
        assert!(!typed.line("echo en''d", "end").contains("evil"));
    }
}
