//! `setsid`, `nsenter`, `unshare` and `lsns`: sessions and namespaces.

use super::become_command;
use super::list::{Units, Users, printable, processes};
use super::start::start;
use crate::options::{Options, Stop, failed, parse, run};
use crate::output::print;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns};
use nix::unistd::{Gid, Uid, chdir, chroot, getgid, getpid, getuid, setgid, setgroups, setuid};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

const SETSID_HELP: &str = "\
Usage: setsid [-c] [-f] [-w] COMMAND...
Run a command in a session of its own.

  -c    with the terminal of standard input as its controlling one
  -f    always in a child
  -w    wait for it and end with its exit code
";

const NSENTER_HELP: &str = "\
Usage: nsenter -t PID [-a] [-m] [-u] [-i] [-n] [-p] [-U] [-C] [-T] [-r] [-w] [COMMAND...]
Run a command (a shell) in the namespaces of a process. Each letter takes a file too, joined to it: -n/run/netns/x.

  -a, --all     all of them
  -m mount  -u uts  -i ipc  -n net  -p pid  -U user  -C cgroup  -T time
  -r, --root    with the root directory of the process;  -w, --wd with its working directory
  -S, --setuid UID;  -G, --setgid GID
  -F, --no-fork do not start a child where the namespace of processes changes
";

const UNSHARE_HELP: &str = "\
Usage: unshare [-m] [-u] [-i] [-n] [-p] [-U] [-C] [-T] [-f] [-r | -c] [--mount-proc[=DIR]] [COMMAND...]
Run a command (a shell) in new namespaces.

  -m mount  -u uts  -i ipc  -n net  -p pid  -U user  -C cgroup  -T time
  -f, --fork            in a child, which is process 1 of a new namespace of processes
  -r, --map-root-user   the caller is root in the new namespace of users;  -c, --map-current-user is itself
  --mount-proc[=DIR]    mount a proc there first (/proc)
  --propagation KIND    private (as without an option), shared, slave or unchanged
  --root DIR, --wd DIR  with another root or working directory
";

const SU_HELP: &str = "\
Usage: su [-] [-c COMMAND] [-s PROGRAM] USER | UID
Run a shell, or a command, as another user. It only goes down: root may, and nobody else; nothing here is set-user-id.

  -, -l    with an environment and a directory as after a login
  -c       this command;  -s by this program instead of the shell
";

const LSNS_HELP: &str = "\
Usage: lsns [-t TYPE] [-p PID] [-n]
List namespaces: number, type, how many processes are in it, the lowest of them, its user and command.
";

pub(crate) fn setsid(arguments: Vec<OsString>) -> i32 {
    run("setsid", || {
        let options = Options::read("setsid", SETSID_HELP, "+ c|ctty f|fork w|wait", &arguments)?;
        if options.rest.is_empty() {
            return Err(Stop::new(1, "no command given"));
        }
        // The leader of a group cannot begin a session; a child can.
        if options.has("f") || nix::unistd::getpgrp() == getpid() {
            let mut words = vec![OsString::from("/proc/self/exe"), "setsid".into()];
            if options.has("c") {
                words.push("-c".into());
            }
            words.push("--".into());
            words.extend(options.rest.iter().cloned());
            return start(&words, options.has("w"));
        }
        nix::unistd::setsid().map_err(failed("a new session"))?;
        if options.has("c") {
            octant_sys::console::take_control(&std::io::stdin()).map_err(failed("the terminal"))?;
        }
        Err(become_command(&options.rest))
    })
}

/// Letter, name below /proc/PID/ns, flag. A user namespace comes first: it may give the rights for the others.
const KINDS: [(&str, &str, CloneFlags); 8] = [
    ("U", "user", CloneFlags::CLONE_NEWUSER),
    ("C", "cgroup", CloneFlags::CLONE_NEWCGROUP),
    ("i", "ipc", CloneFlags::CLONE_NEWIPC),
    ("u", "uts", CloneFlags::CLONE_NEWUTS),
    ("n", "net", CloneFlags::CLONE_NEWNET),
    ("T", "time", CloneFlags::from_bits_retain(nix::libc::CLONE_NEWTIME)),
    ("p", "pid", CloneFlags::CLONE_NEWPID),
    ("m", "mnt", CloneFlags::CLONE_NEWNS),
];

pub(crate) fn nsenter(arguments: Vec<OsString>) -> i32 {
    run("nsenter", || {
        let table = "+ t|target= a|all m|mount? u|uts? i|ipc? n|net? p|pid? U|user? C|cgroup? T|time? r|root? w|wd? \
            S|setuid= G|setgid= F|no-fork |preserve-credentials";
        let options = Options::read("nsenter", NSENTER_HELP, table, &arguments)?;
        let pid: Option<u32> = options.parsed("t")?;
        let of = |key: &str, name: &str| -> Result<Option<File>, Stop> {
            let path = match (options.value(key), pid) {
                (Some(path), _) if !path.is_empty() => path.to_owned(),
                (Some(_), Some(pid)) => format!("/proc/{pid}/{name}").into(),
                (Some(_), None) => return Err(Stop::new(1, format!("-{key} needs a file or -t PID"))),
                (None, Some(pid)) if options.has("a") && name.starts_with("ns/") => {
                    format!("/proc/{pid}/{name}").into()
                }
                (None, _) => return Ok(None),
            };
            File::open(&path).map(Some).map_err(failed(path.display()))
        };
        let own = |name: &str| fs::read_link(format!("/proc/self/ns/{name}")).ok();
        // All of them are opened before any is entered: behind it the files may be out of reach.
        let mut files = Vec::new();
        for (key, name, flag) in KINDS {
            let same = pid.and_then(|pid| fs::read_link(format!("/proc/{pid}/ns/{name}")).ok()) == own(name);
            // One's own namespace of users cannot be entered again, and need not be.
            if let Some(file) = of(key, &format!("ns/{name}"))?.filter(|_| !(same && options.has("a"))) {
                files.push((name, flag, file));
            }
        }
        let (root, directory) = (of("r", "root")?, of("w", "cwd")?);
        let asked = options.has("a") || !files.is_empty();
        if !asked && root.is_none() && directory.is_none() {
            return Err(Stop::new(1, "no namespace given; nsenter --help lists what there is"));
        }
        let forks = files.iter().any(|(_, flag, _)| *flag == CloneFlags::CLONE_NEWPID) && !options.has("F");
        for (name, flag, file) in files {
            setns(file, flag).map_err(failed(format_args!("the {name} namespace")))?;
        }
        if let Some(root) = root {
            nix::unistd::fchdir(root).and_then(|()| chroot(".")).map_err(failed("its root directory"))?;
        }
        if let Some(directory) = directory {
            nix::unistd::fchdir(directory).map_err(failed("its working directory"))?;
        }
        become_user(options.parsed("S")?, options.parsed("G")?)?;
        run_or_become(&options.rest, forks)
    })
}

fn become_user(uid: Option<u32>, gid: Option<u32>) -> Result<(), Stop> {
    if let Some(gid) = gid {
        setgroups(&[]).map_err(failed("the groups"))?;
        setgid(Gid::from_raw(gid)).map_err(failed("the group"))?;
    }
    uid.map_or(Ok(()), |uid| setuid(Uid::from_raw(uid)).map_err(failed("the user")))
}

/// The command, or the shell; in a child where a new namespace of processes is for children only.
fn run_or_become(words: &[OsString], forks: bool) -> Result<i32, Stop> {
    let shell = ["/proc/self/exe".into(), "sh".into()];
    let words = if words.is_empty() { &shell } else { words };
    if forks { start(words, true) } else { Err(become_command(words)) }
}

pub(crate) fn unshare(arguments: Vec<OsString>) -> i32 {
    run("unshare", || {
        let table = "+ m|mount u|uts i|ipc n|net p|pid U|user C|cgroup T|time f|fork r|map-root-user c|map-current-user \
            |mount-proc? |propagation= |root= R= |wd= w= |kill-child? S|setuid= G|setgid=";
        let options = Options::read("unshare", UNSHARE_HELP, table, &arguments)?;
        let mut flags = CloneFlags::empty();
        for (key, _, flag) in KINDS {
            if options.has(key) {
                flags |= flag;
            }
        }
        let maps = options.has("r") || options.has("c");
        if maps {
            flags |= CloneFlags::CLONE_NEWUSER;
        }
        if options.has("mount-proc") {
            flags |= CloneFlags::CLONE_NEWNS;
        }
        let (uid, gid) = (getuid(), getgid());
        nix::sched::unshare(flags).map_err(failed("new namespaces"))?;
        if maps {
            let inside = if options.has("r") { (0, 0) } else { (uid.as_raw(), gid.as_raw()) };
            map_owner(inside, (uid.as_raw(), gid.as_raw()))?;
        }
        if flags.contains(CloneFlags::CLONE_NEWNS) {
            propagate(&options.text("propagation").unwrap_or_else(|| "private".into()))?;
        }
        if options.has("f")
            && (options.has("mount-proc") || options.has("root") || options.has("R") || options.has("S"))
        {
            // What has to be done by process 1 of the new namespace is done by this program again, as that process.
            let mut words: Vec<OsString> = vec!["/proc/self/exe".into(), "unshare".into()];
            for key in ["mount-proc", "root", "R", "wd", "w", "S", "G"] {
                if let Some(value) = options.value(key) {
                    words.push(joined(key, value));
                }
            }
            words.extend([OsString::from("--propagation=unchanged"), "--".into()]);
            words.extend(options.rest.iter().cloned());
            return start(&words, true);
        }
        if let Some(root) = options.value("root").or_else(|| options.value("R")) {
            chroot(root).and_then(|()| chdir("/")).map_err(failed(root.display()))?;
        }
        if let Some(directory) = options.value("wd").or_else(|| options.value("w")) {
            chdir(directory).map_err(failed(directory.display()))?;
        }
        if let Some(directory) = options.value("mount-proc") {
            let directory = if directory.is_empty() { OsStr::new("/proc") } else { directory };
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            mount(Some("proc"), directory, Some("proc"), flags, None::<&str>)
                .map_err(failed(directory.display()))?;
        }
        become_user(options.parsed("S")?, options.parsed("G")?)?;
        run_or_become(&options.rest, options.has("f"))
    })
}

fn joined(key: &str, value: &OsStr) -> OsString {
    let mut out = OsString::from(if key.len() == 1 { "-" } else { "--" });
    out.push(key);
    if key.len() > 1 {
        out.push("=");
    }
    out.push(value);
    out
}

/// A process may map its own ids without rights once groups can no longer be dropped (user_namespaces(7)).
fn map_owner(inside: (u32, u32), outside: (u32, u32)) -> Result<(), Stop> {
    let write =
        |file: &str, text: String| fs::write(format!("/proc/self/{file}"), text).map_err(failed(file));
    write("setgroups", "deny".into())?;
    write("uid_map", format!("{} {} 1\n", inside.0, outside.0))?;
    write("gid_map", format!("{} {} 1\n", inside.1, outside.1))
}

fn propagate(kind: &str) -> Result<(), Stop> {
    let flag = match kind {
        "private" => MsFlags::MS_PRIVATE,
        "shared" => MsFlags::MS_SHARED,
        "slave" => MsFlags::MS_SLAVE,
        "unchanged" => return Ok(()),
        other => {
            return Err(Stop::new(
                1,
                format!("{other:?} is no propagation; private, shared, slave, unchanged"),
            ));
        }
    };
    mount(None::<&str>, "/", None::<&str>, flag | MsFlags::MS_REC, None::<&str>).map_err(failed("mounts"))
}

pub(crate) fn su(arguments: Vec<OsString>) -> i32 {
    run("su", || {
        let options = Options::read("su", SU_HELP, "l|login c|command= s|shell= m p", &arguments)?;
        let mut words = options.words();
        let login = options.has("l") || words.first().is_some_and(|word| word == "-");
        words.retain(|word| word != "-");
        let [name] = &words[..] else { return Err(Stop::new(1, "one user has to be given")) };
        if !nix::unistd::geteuid().is_root() {
            return Err(Stop::new(1, "only root can become another user, and nothing here is set-user-id"));
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let (uid, gid, home) = user(&passwd, name).ok_or_else(|| Stop::new(1, format!("no user {name}")))?;
        become_user(Some(uid), Some(gid))?;
        let mut command = Command::new(options.value("s").unwrap_or(OsStr::new("/proc/self/exe")));
        if !options.has("s") {
            command.arg0(if login { "-sh" } else { "sh" });
        }
        if login {
            command.env_clear().env("PATH", "/bin").env("SHELL", "/bin/sh").current_dir(&home);
            command.envs(std::env::var_os("TERM").map(|term| ("TERM", term)));
        }
        if let Some(line) = options.value("c") {
            command.arg("-c").arg(line);
        }
        let error = command.env("HOME", &home).env("USER", name).env("LOGNAME", name).exec();
        Err(failed("the shell")(error))
    })
}

/// User id, group id and home of a user by name or number; a number that nobody has is its own group, at home in `/`.
fn user(passwd: &str, name: &str) -> Option<(u32, u32, String)> {
    let row = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.len() > 5 && (fields[0] == name || fields[2] == name));
    match row {
        Some(fields) => Some((fields[2].parse().ok()?, fields[3].parse().ok()?, fields[5].to_owned())),
        None => name.parse().ok().map(|uid| (uid, uid, "/".to_owned())),
    }
}

pub(crate) fn lsns(arguments: Vec<OsString>) -> i32 {
    run("lsns", || {
        let options = Options::read("lsns", LSNS_HELP, "t|type= p|task= n|noheadings", &arguments)?;
        let only: Option<u32> = options.parsed("p")?;
        let kind = options.text("t");
        if kind.as_ref().is_some_and(|kind| !KINDS.iter().any(|(_, name, _)| name == kind)) {
            return Err(Stop::new(1, "no such type; user cgroup ipc uts net time pid mnt"));
        }
        let all = processes(Path::new("/proc"), &Units::here()).map_err(failed("/proc"))?;
        let users = Users::of_users();
        let mut found: BTreeMap<(u64, &str), (usize, u32, String, String)> = BTreeMap::new();
        for process in &all {
            for (_, name, _) in
                KINDS.iter().filter(|(_, name, _)| kind.as_ref().is_none_or(|kind| kind == name))
            {
                let Ok(link) = fs::read_link(format!("/proc/{}/ns/{name}", process.pid)) else { continue };
                let link = link.to_string_lossy().into_owned();
                let number = link.split(['[', ']']).nth(1).and_then(|number| parse(number).ok());
                let Some(number) = number else { continue };
                let row = (0, process.pid, users.name(process.uid.1), printable(&process.command()));
                found.entry((number, name)).or_insert(row).0 += 1;
            }
        }
        if let Some(pid) = only {
            let of = |name: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).ok();
            found.retain(|(number, name), _| {
                of(name).is_some_and(|link| link.to_string_lossy().contains(&format!("[{number}]")))
            });
        }
        let mut text = String::new();
        if !options.has("n") {
            text.push_str("        NS TYPE   NPROCS     PID USER     COMMAND\n");
        }
        for ((number, name), (count, pid, user, command)) in &found {
            text.push_str(&format!("{number:>10} {name:<6} {count:>6} {pid:>7} {user:<8} {command}\n"));
        }
        Ok(print("lsns", &text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_known_by_name_and_number() {
        let passwd = "root:x:0:0:r:/root:/bin/sh\nbad\nweb:x:33:34:w:/srv:/bin/sh\n";
        assert_eq!(user(passwd, "web"), Some((33, 34, "/srv".into())));
        assert_eq!(user(passwd, "0"), Some((0, 0, "/root".into())));
        assert_eq!((user(passwd, "1000"), user(passwd, "nobody")), (Some((1000, 1000, "/".into())), None));
    }

    #[test]
    fn options_for_the_second_process_are_written_as_they_are_read() {
        assert_eq!(joined("mount-proc", OsStr::new("")), "--mount-proc=");
        assert_eq!(joined("wd", OsStr::new("/x y")), "--wd=/x y");
        assert_eq!(joined("S", OsStr::new("7")), "-S7");
        assert_eq!(propagate("some").unwrap_err().code, 1);
    }
}
