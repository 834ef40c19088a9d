//! `pstree`.

use super::list::{Process, Units, Users, base, printable, processes};
use crate::options::{Options, Stop, failed, run};
use crate::output::print;
use std::ffi::OsString;
use std::path::Path;

const HELP: &str = "\
Usage: pstree [-p] [-a] [-u] [-A] [PID | USER]
Show processes as a tree, from the first one or from PID, or those of USER.

  -p    with their numbers
  -a    with their command lines
  -u    with their users where they change
  -A    without characters beyond ASCII
";

pub(crate) fn pstree(arguments: Vec<OsString>) -> i32 {
    run("pstree", || {
        let options = Options::read(
            "pstree",
            HELP,
            "p|show-pids a|arguments u|uid-changes A|ascii U|unicode l|long c|compact-not n|numeric-sort",
            &arguments,
        )?;
        let all = processes(Path::new("/proc"), &Units::here()).map_err(failed("/proc"))?;
        let users = Users::of_users();
        let roots = match options.words().first() {
            None => roots(&all, |process| !all.iter().any(|other| other.pid == process.parent)),
            Some(word) => match word.parse::<u32>() {
                Ok(pid) => roots(&all, |process| process.pid == pid),
                Err(_) => {
                    let uid = users.id(word).ok_or_else(|| Stop::new(1, format!("no user {word}")))?;
                    let of = |pid: u32| all.iter().any(|other| other.pid == pid && other.uid.1 == uid);
                    roots(&all, |process| process.uid.1 == uid && !of(process.parent))
                }
            },
        };
        if roots.is_empty() {
            return Ok(1);
        }
        let show = Show { all: &all, options: &options, users: &users };
        let mut text = String::new();
        for root in roots {
            show.branch(root, "", "", None, &mut text);
        }
        Ok(print("pstree", &text))
    })
}

fn roots(all: &[Process], is: impl Fn(&Process) -> bool) -> Vec<&Process> {
    all.iter().filter(|process| is(process)).collect()
}

struct Show<'a> {
    all: &'a [Process],
    options: &'a Options,
    users: &'a Users,
}

/// A deeper one is not shown: procfs read while processes come and go may have a circle.
const DEPTH: usize = 400;

impl Show<'_> {
    fn branch(&self, process: &Process, head: &str, next: &str, above: Option<u32>, text: &mut String) {
        text.push_str(head);
        text.push_str(&self.label(process, above));
        text.push('\n');
        let children: Vec<&Process> =
            self.all.iter().filter(|child| child.parent == process.pid && child.pid != process.pid).collect();
        let [tee, corner, bar] =
            if self.options.has("A") { ["|-", "`-", "| "] } else { ["├─", "└─", "│ "] };
        if next.chars().count() > DEPTH {
            return;
        }
        for (at, child) in children.iter().enumerate() {
            let last = at + 1 == children.len();
            let head = format!("{next}{}", if last { corner } else { tee });
            let next = format!("{next}{}", if last { "  " } else { bar });
            self.branch(child, &head, &next, Some(process.uid.1), text);
        }
    }

    fn label(&self, process: &Process, above: Option<u32>) -> String {
        let mut out = match (self.options.has("a"), process.words.first()) {
            (true, Some(_)) => printable(&process.command()),
            (false, Some(first)) if process.name.len() == 15 => printable(base(first)),
            _ => printable(&process.name),
        };
        let mut inside = Vec::new();
        if self.options.has("p") {
            inside.push(process.pid.to_string());
        }
        if self.options.has("u") && above.is_some_and(|uid| uid != process.uid.1) {
            inside.push(self.users.name(process.uid.1));
        }
        if !inside.is_empty() {
            out.push_str(&format!("({})", inside.join(",")));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_stand_below_their_parents() {
        let of = |pid, parent, name: &str, uid| Process {
            pid,
            parent,
            name: name.into(),
            uid: (uid, uid),
            ..Process::default()
        };
        let all = [of(1, 0, "init", 0), of(2, 1, "a", 0), of(3, 2, "b", 7), of(4, 1, "c", 0)];
        let line: Vec<OsString> = ["pstree", "-pu", "-A"].map(OsString::from).into();
        let options = Options::read("pstree", HELP, "p u A", &line).unwrap();
        let show = Show { all: &all, options: &options, users: &Users::default() };
        let mut text = String::new();
        show.branch(&all[0], "", "", None, &mut text);
        assert_eq!(text, "init(1)\n|-a(2)\n| `-b(3,7)\n`-c(4)\n");
    }

    #[test]
    fn a_circle_ends() {
        let of = |pid, parent| Process { pid, parent, name: "x".into(), ..Process::default() };
        let all = [of(1, 2), of(2, 1)];
        let options = Options::default();
        let show = Show { all: &all, options: &options, users: &Users::default() };
        let mut text = String::new();
        show.branch(&all[0], "", "", None, &mut text);
        assert!(text.lines().count() < 2 * DEPTH);
    }
}
