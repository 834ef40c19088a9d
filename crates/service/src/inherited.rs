//! The descriptors that PID 1 passes (sd_listen_fds(3): LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES).

use crate::error::ServiceError;
use octant_sys::inherit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

const FIRST: i32 = 3;
/// Far more than PID 1 passes: one socket for each agent and a few of its own.
const MAX: i32 = 16_384;

/// Descriptors by name, in the order in which PID 1 passed them.
#[derive(Debug, Default)]
pub struct Inherited(Vec<(String, OwnedFd)>);

impl Inherited {
    /// Takes every descriptor that the environment names. `variable` reads the environment.
    pub(crate) fn take(variable: impl Fn(&str) -> Option<String>, pid: u32) -> Result<Self, ServiceError> {
        let wrong = |name: &'static str| ServiceError::Environment {
            name,
            value: variable(name).unwrap_or_default(),
        };
        let number = |name: &'static str| variable(name).and_then(|text| text.parse::<u32>().ok());
        if number("LISTEN_PID") != Some(pid) {
            return Err(wrong("LISTEN_PID"));
        }
        let count =
            number("LISTEN_FDS").and_then(|count| i32::try_from(count).ok()).filter(|count| *count <= MAX);
        let count = count.ok_or_else(|| wrong("LISTEN_FDS"))?;
        let names = listed(&variable);
        let names: Vec<&str> =
            names.iter().flat_map(|part| part.split(':')).filter(|name| !name.is_empty()).collect();
        if usize::try_from(count) != Ok(names.len()) {
            return Err(wrong("LISTEN_FDNAMES"));
        }
        (FIRST..).zip(names).map(|(number, name)| take_one(number, name)).collect::<Result<_, _>>().map(Self)
    }

    /// The descriptor of this name; the first one when there are several.
    pub fn remove(&mut self, name: &str) -> Option<OwnedFd> {
        let place = self.0.iter().position(|row| row.0 == name)?;
        Some(self.0.remove(place).1)
    }

    /// Every descriptor that an earlier run of this service left in PID 1's store, by the name it gave there
    /// ([`Notifier::store`](crate::Notifier::store)).
    pub fn stored(&mut self) -> Vec<(String, OwnedFd)> {
        let (stored, rest) =
            std::mem::take(&mut self.0).into_iter().partition(|row| row.0.starts_with("stored."));
        self.0 = rest;
        let stored: Vec<(String, OwnedFd)> = stored;
        stored.into_iter().map(|(name, fd)| (name["stored.".len()..].to_owned(), fd)).collect()
    }

    /// The numbers of all of them.
    pub(crate) fn numbers(&self) -> Vec<RawFd> {
        self.0.iter().map(|row| row.1.as_raw_fd()).collect()
    }
}

/// The names: the kernel takes 128 KiB in one variable (MAX_ARG_STRLEN), and what does not fit goes on in the next.
fn listed(variable: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let more = (2..).map_while(|part| variable(&format!("LISTEN_FDNAMES_{part}")));
    variable("LISTEN_FDNAMES").into_iter().chain(more).collect()
}

fn take_one(number: i32, name: &str) -> Result<(String, OwnedFd), ServiceError> {
    inherit::take(number).map(|fd| (name.to_owned(), fd)).map_err(|source| ServiceError::Descriptor {
        number,
        name: name.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(pid: &str, fds: &str, names: &str) -> Result<Inherited, ServiceError> {
        let variable = |name: &str| match name {
            "LISTEN_PID" => Some(pid.to_owned()),
            "LISTEN_FDS" => Some(fds.to_owned()),
            "LISTEN_FDNAMES" => Some(names.to_owned()),
            _ => None,
        };
        Inherited::take(variable, 7)
    }

    #[test]
    fn an_environment_of_somebody_else_is_refused() {
        for (pid, fds, names) in [
            ("8", "0", ""),
            ("", "0", ""),
            ("7", "", ""),
            ("7", "-1", ""),
            ("7", "99999", ""),
            ("7", "1", "a:b"),
            ("7", "1", ""),
        ] {
            assert!(
                matches!(take(pid, fds, names), Err(ServiceError::Environment { .. })),
                "{pid} {fds} {names}"
            );
        }
        assert!(take("7", "0", "").unwrap().numbers().is_empty());
    }

    #[test]
    fn names_go_on_in_further_variables() {
        let variable = |name: &str| match name {
            "LISTEN_FDNAMES" => Some("a:b".to_owned()),
            "LISTEN_FDNAMES_2" => Some("c".to_owned()),
            "LISTEN_FDNAMES_4" => Some("d".to_owned()),
            _ => None,
        };
        assert_eq!(listed(variable), ["a:b", "c"]);
        assert!(listed(|_| None).is_empty());
    }

    #[test]
    fn stored_descriptors_come_back_by_their_own_names() {
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let mut inherited = Inherited(vec![
            ("stored.a".into(), null()),
            ("journal".into(), null()),
            ("stored.b".into(), null()),
        ]);
        let names: Vec<String> = inherited.stored().into_iter().map(|row| row.0).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(inherited.remove("journal").is_some() && inherited.remove("journal").is_none());
    }
}
