//! The names of the steps that build a workstation, and the error that carries one.

use std::fmt;
use std::io;

macro_rules! steps {
    ($($variant:ident $name:literal $about:literal;)+) => {
        /// One step of building a workstation, in the order in which they happen.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Step { $(#[doc = $about] $variant,)+ }

        impl Step {
            /// Every step, in order.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name that messages and the ledger use.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What the step does.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => $about,)+ }
            }
        }
    };
}

steps! {
    Request "request" "receive and check the request";
    Ticket "ticket" "redeem the ledger's ticket for the plan";
    Check "check" "check the plan against the spawner's own limits";
    Sources "sources" "open each granted path and prove that it is not Octant's own state";
    Filter "filter" "compile the seccomp programs";
    Tree "tree" "compose the new root file system, detached";
    Socket "socket" "bind the agent's socket in the new root";
    Cgroup "cgroup" "make the cgroup leaf and write its limits";
    Hooks "hooks" "have the kernel ask programs in the cgroup where the agent connects to";
    Channel "channel" "make the channel between the spawner and the new process";
    Clone "clone" "clone3 into new namespaces and the cgroup leaf";
    IdMap "id-map" "map the slot's user and group ids";
    Handshake "handshake" "exchange messages with the new process";
    Parent "parent" "die with the parent";
    Session "session" "lead a session of its own";
    Propagation "propagation" "make every mount private";
    Root "root" "attach the new root";
    Attach "attach" "attach each granted path, device and scratch space";
    Proc "proc" "mount proc of the new PID namespace";
    Sysctl "sysctl" "forbid executable memory files and further user namespaces";
    Time "time" "start the clocks of the new time namespace at zero";
    Pivot "pivot" "make the new root the root";
    Detach "detach" "let go of the old root";
    Network "network" "let nothing leave the network but by loopback, to the agent's own addresses and the gate's";
    Hostname "hostname" "set the host name";
    Keyring "keyring" "leave the session keyring";
    Fork "fork" "fork the agent's process from the reaper";
    Descriptors "descriptors" "put standard input, output and error in place";
    Rlimits "rlimits" "set resource limits";
    Environment "environment" "set umask and working directory";
    Signals "signals" "reset signals";
    Bounding "bounding" "empty the bounding and ambient capability sets";
    Securebits "securebits" "lock the securebits";
    Ids "ids" "become the agent's user";
    Capabilities "capabilities" "empty the effective, permitted and inheritable capability sets";
    Dumpable "dumpable" "forbid core dumps and tracing";
    NoNewPrivs "no-new-privs" "give up gaining privileges by execve";
    Landlock "landlock" "confine file, network and signal access by Landlock";
    CloseRange "close-range" "close every other descriptor";
    Seccomp "seccomp" "install the system call filters";
    ReadBack "read-back" "compare the effective state in /proc with the plan";
    Listen "listen" "listen in the network of the agent for the gate";
    Execute "execute" "execute the agent's program";
    Collect "collect" "read what is to be kept of the workspace";
    Remove "remove" "kill what runs and remove the cgroup leaf";
}

impl Step {
    /// The step with this number.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The step's number, for the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why there is no workstation: the step that failed, the kernel's error number (0 when it was our own check),
/// and what was being done to what.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("step {step} failed: {text}{}", reason(*.errno))]
pub struct SpawnError {
    /// The step that failed.
    pub step: Step,
    /// The kernel's error number, 0 when the refusal is Octant's own.
    pub errno: i32,
    /// What was being done, and to what.
    pub text: String,
}

fn reason(errno: i32) -> String {
    if errno == 0 { String::new() } else { format!(": {}", io::Error::from_raw_os_error(errno)) }
}

impl SpawnError {
    /// A refusal of our own.
    pub(crate) fn refused(step: Step, text: impl Into<String>) -> Self {
        Self { step, errno: 0, text: text.into() }
    }

    /// A failed call.
    pub(crate) fn failed(step: Step, text: impl Into<String>, error: &io::Error) -> Self {
        let errno = error.raw_os_error().unwrap_or(0);
        let text = text.into();
        Self { step, errno, text: if errno == 0 { format!("{text}: {error}") } else { text } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_steps_agree() {
        for (i, step) in Step::ALL.iter().enumerate() {
            assert_eq!(usize::from(step.number()), i);
            assert_eq!(Step::from_number(step.number()), Some(*step));
        }
        assert_eq!(Step::from_number(u16::MAX), None);
    }

    #[test]
    fn the_message_says_what_failed_where_and_why() {
        let error = SpawnError::failed(Step::Pivot, "pivot_root", &io::Error::from_raw_os_error(22));
        assert_eq!(error.to_string(), "step pivot failed: pivot_root: Invalid argument (os error 22)");
    }
}
