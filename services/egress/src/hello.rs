//! The first words of a TLS connection: which server the program means (RFC 6066 section 3).

use rustls::server::Acceptor;

/// The longest that a program may say before it has named the server, in bytes: one record, as TLS has it at most, and
/// its header.
pub(crate) const HELLO_MAX: usize = (1 << 14) + 256 + 5;

/// What is known of the beginning of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hello {
    /// More has to come.
    Part,
    /// The server's name; none when the program named none.
    Named(Option<String>),
    /// It is not the beginning of TLS 1.2 or 1.3, or breaks its rules.
    Bad(String),
}

/// Reads the beginning of a connection, from its first byte.
pub(crate) fn read(bytes: &[u8]) -> Hello {
    let mut acceptor = Acceptor::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        if let Err(error) = acceptor.read_tls(&mut rest) {
            return Hello::Bad(error.to_string());
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let name = accepted.client_hello().server_name().map(str::to_owned);
                return Hello::Named(name);
            }
            Err((error, _)) => return Hello::Bad(error.to_string()),
        }
    }
    if bytes.len() >= HELLO_MAX {
        Hello::Bad(format!("no server is named in the first {HELLO_MAX} bytes"))
    } else {
        Hello::Part
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A ClientHello as TLS 1.3 has it, with these server names (RFC 8446 section 4.1.2).
    pub(crate) fn client_hello(names: &[&[u8]]) -> Vec<u8> {
        let extension = |kind: u16, body: &[u8]| {
            let mut out = kind.to_be_bytes().to_vec();
            out.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
            out.extend(body);
            out
        };
        let listed = |body: &[u8]| {
            let mut out = u16::try_from(body.len()).unwrap().to_be_bytes().to_vec();
            out.extend(body);
            out
        };
        let mut extensions = Vec::new();
        for name in names {
            let mut entry = vec![0];
            entry.extend(listed(name));
            extensions.extend(extension(0, &listed(&entry)));
        }
        extensions.extend(extension(43, &[2, 3, 4]));
        extensions.extend(extension(13, &listed(&[4, 3])));
        extensions.extend(extension(10, &listed(&[0, 29])));
        let mut share = vec![0, 29];
        share.extend(listed(&[9; 32]));
        extensions.extend(extension(51, &listed(&share)));
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0]);
        body.extend(listed(&[0x13, 0x01]));
        body.extend([1, 0]);
        body.extend(listed(&extensions));
        let mut message = vec![1, 0];
        message.extend(listed(&body));
        message
    }

    pub(crate) fn record(message: &[u8]) -> Vec<u8> {
        let mut out = vec![22, 3, 1];
        out.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
        out.extend(message);
        out
    }

    fn named(name: &str) -> Hello {
        Hello::Named(Some(name.to_owned()))
    }

    #[test]
    fn the_server_is_named_however_the_bytes_come() {
        let message = client_hello(&[b"api.example.org"]);
        let whole = record(&message);
        assert_eq!(read(&whole), named("api.example.org"));
        for end in 0..whole.len() {
            assert_eq!(read(&whole[..end]), Hello::Part, "{end}");
        }
        for cut in 1..message.len() {
            let mut pieces = record(&message[..cut]);
            pieces.extend(record(&message[cut..]));
            assert_eq!(read(&pieces), named("api.example.org"), "{cut}");
        }
        let mut more = whole.clone();
        more.extend(b"early data");
        assert_eq!(read(&more), named("api.example.org"));
    }

    #[test]
    fn what_names_no_server_or_two_is_known() {
        assert_eq!(read(&record(&client_hello(&[]))), Hello::Named(None));
        for bad in [
            record(&client_hello(&[b"a.example.org", b"b.example.org"])),
            record(&client_hello(&[b"a\0.example.org"])),
            b"GET / HTTP/1.1\r\nHost: api.example.org\r\n\r\n".to_vec(),
            b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
            vec![0x80, 0x2e, 1, 3, 1],
        ] {
            assert!(matches!(read(&bad), Hello::Bad(_)), "{bad:?}: {:?}", read(&bad));
        }
        // An address is no name, and no name is what rustls makes of it.
        assert!(!matches!(read(&record(&client_hello(&[b"127.0.0.1"]))), Hello::Named(Some(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..600), at in 0_usize..200, to: u8) {
            let _ = read(&bytes);
            let mut hello = record(&client_hello(&[b"api.example.org"]));
            let at = at % hello.len();
            hello[at] = to;
            let _ = read(&hello);
        }
    }
}
