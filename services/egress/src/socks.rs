//! SOCKS version 5, as far as a program needs it to connect (RFC 1928): no authentication, since the socket tells which
//! agent asks, and CONNECT alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where a program wants to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Name(String),
    Address(IpAddr),
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// More has to come.
    Part,
    /// Answer these bytes, drop so many, and go on.
    Greeted { taken: usize },
    /// A request, of so many bytes.
    Connect { target: Target, port: u16, taken: usize },
    /// Answer this and close.
    Refuse(Reply),
    /// It is not SOCKS version 5; close.
    Bad,
}

/// The codes of answers (RFC 1928 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    Succeeded = 0,
    NotAllowed = 2,
    CommandNotSupported = 7,
    AddressTypeNotSupported = 8,
}

impl Reply {
    /// Its bytes. The address in it is of no use to a program that cannot reach it, and is left empty.
    pub(crate) fn bytes(self) -> [u8; 10] {
        [5, self as u8, 0, 1, 0, 0, 0, 0, 0, 0]
    }
}

/// The answer to a greeting that offers to go without authentication.
pub(crate) const GREETING: [u8; 2] = [5, 0];
/// And to one that does not.
pub(crate) const NO_METHOD: [u8; 2] = [5, 0xff];
/// The longest request: a name has 255 bytes.
pub(crate) const REQUEST_MAX: usize = 4 + 1 + 255 + 2;

/// Reads a greeting: the version, and the ways of authentication that the program knows.
pub(crate) fn greeting(bytes: &[u8]) -> Next {
    match bytes {
        [] | [5] => Next::Part,
        [5, count, rest @ ..] => match rest.get(..usize::from(*count)) {
            None => Next::Part,
            Some(methods) if methods.contains(&0) => Next::Greeted { taken: 2 + methods.len() },
            Some(_) => Next::Bad,
        },
        _ => Next::Bad,
    }
}

/// Reads a request.
pub(crate) fn request(bytes: &[u8]) -> Next {
    let (command, kind, rest) = match bytes {
        [5, command, 0, kind, rest @ ..] => (*command, *kind, rest),
        [] | [5] | [5, _] | [5, _, 0] => return Next::Part,
        _ => return Next::Bad,
    };
    if command != 1 {
        return Next::Refuse(Reply::CommandNotSupported);
    }
    let (target, rest) = match (kind, rest) {
        (1, [a, b, c, d, rest @ ..]) => (Target::Address(Ipv4Addr::new(*a, *b, *c, *d).into()), rest),
        (3, [length, rest @ ..]) => {
            let Some((name, rest)) = rest.split_at_checked(usize::from(*length)) else { return Next::Part };
            match std::str::from_utf8(name) {
                Ok(name) => (Target::Name(name.to_owned()), rest),
                Err(_) => return Next::Refuse(Reply::NotAllowed),
            }
        }
        (4, rest) => match rest.split_first_chunk::<16>() {
            Some((address, rest)) => (Target::Address(Ipv6Addr::from(*address).into()), rest),
            None => return Next::Part,
        },
        (1 | 3, _) => return Next::Part,
        _ => return Next::Refuse(Reply::AddressTypeNotSupported),
    };
    match rest {
        [high, low, after @ ..] => {
            let port = u16::from_be_bytes([*high, *low]);
            Next::Connect { target, port, taken: bytes.len() - after.len() }
        }
        _ => Next::Part,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_is_read_however_it_comes() {
        let mut whole = vec![5, 1, 0, 3, 15];
        whole.extend(b"api.example.org\x01\xbb");
        let connect =
            Next::Connect { target: Target::Name("api.example.org".into()), port: 443, taken: whole.len() };
        for end in 0..whole.len() {
            assert_eq!(request(&whole[..end]), Next::Part, "{end}");
        }
        assert_eq!(request(&whole), connect);
        whole.extend(b"early");
        assert_eq!(request(&whole), connect);
        let v4 = [5, 1, 0, 1, 1, 2, 3, 4, 0, 80];
        let target = Target::Address("1.2.3.4".parse().unwrap());
        assert_eq!(request(&v4), Next::Connect { target, port: 80, taken: 10 });
    }

    #[test]
    fn what_is_not_offered_is_refused() {
        assert_eq!(greeting(&[5, 2, 2, 0]), Next::Greeted { taken: 4 });
        assert_eq!(greeting(&[5, 2, 2]), Next::Part);
        assert_eq!(greeting(&[5, 1, 2]), Next::Bad);
        assert_eq!(greeting(&[4, 1, 0, 80]), Next::Bad);
        assert_eq!(request(&[5, 2, 0, 1]), Next::Refuse(Reply::CommandNotSupported));
        assert_eq!(request(&[5, 3, 0, 1]), Next::Refuse(Reply::CommandNotSupported));
        assert_eq!(request(&[5, 1, 0, 9]), Next::Refuse(Reply::AddressTypeNotSupported));
        assert_eq!(request(&[5, 1, 1, 1]), Next::Bad);
        assert_eq!(request(&[5, 1, 0, 3, 1, 0xff, 0, 80]), Next::Refuse(Reply::NotAllowed));
    }

    proptest! {
        #[test]
        fn a_request_never_takes_more_than_there_is(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for next in [greeting(&bytes), request(&bytes)] {
                if let Next::Greeted { taken } | Next::Connect { taken, .. } = next {
                    prop_assert!(taken <= bytes.len() && taken <= REQUEST_MAX);
                }
            }
        }
    }
}
