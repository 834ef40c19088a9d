//! Questions for names, answered here and nowhere else: a granted name has its address in the agent's network, any other
//! does not exist. Nothing that an agent asks leaves the machine, so nothing can be said by asking.

use crate::core::Rights;
use crate::names::{Names, v4, v6};
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use octant_manifest::HostName;

/// How long a program may remember an address, in seconds. It is good for as long as the grant is.
const TTL_S: u32 = 30;
/// The longest question that is read: a name has 255 bytes, and there is room for what EDNS adds.
pub(crate) const QUESTION_MAX: usize = 1024;

/// What to send back, and what was refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) bytes: Vec<u8>,
    /// The name that was refused.
    pub(crate) refused: Option<String>,
}

/// Answers one question; none for what is no question at all.
pub(crate) fn answer(packet: &[u8], rights: &Rights, names: &mut Names, now_ms: u64) -> Option<Answer> {
    if packet.len() > QUESTION_MAX {
        return None;
    }
    let asked = Message::from_vec(packet).ok()?;
    if asked.metadata.message_type != MessageType::Query {
        return None;
    }
    let mut reply = Message::response(asked.metadata.id, asked.metadata.op_code);
    reply.metadata.recursion_desired = asked.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    let mut refused = None;
    let code = match (asked.metadata.op_code, asked.queries.as_slice()) {
        (OpCode::Query, [query]) => {
            reply.add_query(query.clone());
            let host = host_of(query.name());
            match host.filter(|host| query.query_class() == DNSClass::IN && rights.names(host, now_ms)) {
                None => {
                    refused = Some(query.name().to_ascii().chars().take(255).collect());
                    // Another code would be a failure that passes, to programs and to who reads their messages.
                    ResponseCode::NXDomain
                }
                Some(host) => address(&mut reply, &host, query.name(), query.query_type(), names),
            }
        }
        (OpCode::Query, _) => ResponseCode::FormErr,
        _ => ResponseCode::NotImp,
    };
    reply.metadata.response_code = code;
    Some(Answer { bytes: reply.to_vec().ok()?, refused })
}

/// Adds the address that is asked for. Other records of a granted name do not exist: in particular none that would tell a
/// program to hide the name of the server that it speaks to (HTTPS and SVCB carry the key for that).
fn address(
    reply: &mut Message,
    host: &HostName,
    name: &Name,
    kind: RecordType,
    names: &mut Names,
) -> ResponseCode {
    if !matches!(kind, RecordType::A | RecordType::AAAA) {
        return ResponseCode::NoError;
    }
    let Some(place) = names.place(host) else { return ResponseCode::ServFail };
    let data = if kind == RecordType::A { RData::A(v4(place).into()) } else { RData::AAAA(v6(place).into()) };
    reply.add_answer(Record::from_rdata(name.clone(), TTL_S, data));
    ResponseCode::NoError
}

fn host_of(name: &Name) -> Option<HostName> {
    // A label can have any byte, a dot among them; of a host none does.
    let plain = |label: &[u8]| label.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-');
    if !name.iter().all(plain) {
        return None;
    }
    name.to_ascii().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::Query;
    use octant_api::egress::Caps;
    use octant_ids::Aid;
    use proptest::prelude::*;
    use std::net::IpAddr;
    use std::str::FromStr;

    fn rights() -> Rights {
        let caps = Caps { connections: 1, bytes: None, bytes_per_second: None, drawn: false };
        let hosts = ["tls://api.example.org:443".to_owned(), "tls://*.example.net:443".to_owned()];
        Rights::read(1, &hosts, &[], caps, |_| None).unwrap()
    }

    fn ask(name: &str, kind: RecordType) -> (Message, Option<String>, Names) {
        let mut names = Names::new(Aid::from_bytes([1; 16]));
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_str(name).unwrap(), kind));
        let answer = answer(&message.to_vec().unwrap(), &rights(), &mut names, 0).unwrap();
        let reply = Message::from_vec(&answer.bytes).unwrap();
        assert_eq!((reply.metadata.id, reply.queries.len()), (message.metadata.id, 1));
        (reply, answer.refused, names)
    }

    #[test]
    fn a_granted_name_has_an_address_that_stands_for_it() {
        for name in ["api.example.org.", "API.Example.ORG.", "a.b.example.net."] {
            for kind in [RecordType::A, RecordType::AAAA] {
                let (reply, refused, names) = ask(name, kind);
                assert_eq!((reply.metadata.response_code, refused), (ResponseCode::NoError, None));
                let address = match reply.answers[0].data {
                    RData::A(a) => IpAddr::V4(a.0),
                    RData::AAAA(a) => IpAddr::V6(a.0),
                    ref other => panic!("{other}"),
                };
                assert_eq!(
                    names.name(address).unwrap().as_str(),
                    name.to_ascii_lowercase().trim_end_matches('.')
                );
            }
        }
    }

    #[test]
    fn a_granted_name_has_nothing_else() {
        for kind in [RecordType::HTTPS, RecordType::SVCB, RecordType::TXT, RecordType::MX, RecordType::ANY] {
            let (reply, refused, _) = ask("api.example.org.", kind);
            assert_eq!((reply.metadata.response_code, refused), (ResponseCode::NoError, None), "{kind}");
            assert!(reply.answers.is_empty() && reply.authorities.is_empty(), "{kind}");
        }
    }

    #[test]
    fn any_other_name_is_refused() {
        let names = [
            "example.org.",
            "example.net.",
            "evil.org.",
            "api.example.org.evil.org.",
            "org.",
            ".",
            "4.3.2.1.in-addr.arpa.",
            "api\\.example.org.",
        ];
        for name in names {
            let (reply, refused, _) = ask(name, RecordType::A);
            assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain, "{name}");
            assert!(refused.is_some() && reply.answers.is_empty(), "{name}");
        }
    }

    #[test]
    fn what_is_no_question_has_no_answer() {
        let mut names = Names::new(Aid::from_bytes([1; 16]));
        let mut many = Message::query();
        many.add_query(Query::query(Name::from_str("api.example.org.").unwrap(), RecordType::A));
        many.add_query(Query::query(Name::from_str("evil.org.").unwrap(), RecordType::A));
        let two = answer(&many.to_vec().unwrap(), &rights(), &mut names, 0).unwrap();
        assert_eq!(Message::from_vec(&two.bytes).unwrap().metadata.response_code, ResponseCode::FormErr);
        let reply = Message::response(1, OpCode::Query).to_vec().unwrap();
        for none in [&reply[..], &[], &[0; 11], &vec![0; QUESTION_MAX + 1]] {
            assert_eq!(answer(none, &rights(), &mut names, 0), None);
        }
    }

    proptest! {
        #[test]
        fn no_packet_is_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut names = Names::new(Aid::from_bytes([1; 16]));
            let _ = answer(&bytes, &rights(), &mut names, 0);
        }
    }
}
