//! The laws of tickets, under any keys, times and changes.

use crate::keys::KeysError;
use crate::{
    Actuator, Issuer, KEYS_MAX, Key, Keys, LEN, SECOND_NS, TTL_MAX_NS, TicketError, USED_MAX, decode, encode,
};
use octant_api::ticket::Ticket;
use octant_ids::{ServiceName, Sha256};
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::{prop_assert, prop_assert_eq, prop_assert_ne};

const START: u64 = 1000 * SECOND_NS;

fn name(text: &str) -> ServiceName {
    text.parse().unwrap()
}

fn keys() -> Keys {
    Keys::new([(name("spawner"), Key::new(&[7; 32])), (name("vault"), Key::new(&[8; 32]))]).unwrap()
}

fn actuator(who: &str, now_ns: u64) -> Actuator {
    Actuator::new(name(who), keys().get(who).unwrap().clone(), now_ns)
}

fn issue(seq: u64, intent: Sha256, now_ns: u64) -> Ticket {
    Issuer::new(keys()).issue(seq, intent, "spawner", now_ns, 10 * SECOND_NS).unwrap()
}

const INTENT: Sha256 = Sha256([3; 32]);

/// A change of one field.
fn change() -> impl Strategy<Value = fn(&mut Ticket, u8)> {
    let changes: [fn(&mut Ticket, u8); 5] = [
        |t, n| t.seq ^= 1 << (n % 64),
        |t, n| t.intent.0[usize::from(n / 8)] ^= 1 << (n % 8),
        |t, n| t.issued_ns ^= 1 << (n % 64),
        |t, n| t.expires_ns ^= 1 << (n % 64),
        |t, n| t.mac.0[usize::from(n / 8)] ^= 1 << (n % 8),
    ];
    (0..changes.len()).prop_map(move |at| changes[at])
}

proptest! {
    #[test]
    fn a_ticket_is_redeemed_once_by_whom_it_names(
        seq: u64, intent: [u8; 32], key: [u8; 32], started: u32, late in 0..10 * SECOND_NS,
    ) {
        let (intent, started) = (Sha256(intent), u64::from(started));
        let keys = Keys::new([(name("a"), Key::new(&key))]).unwrap();
        let mut actuator = Actuator::new(name("a"), keys.get("a").unwrap().clone(), started);
        let ticket = Issuer::new(keys).issue(seq, intent, "a", started, 10 * SECOND_NS).unwrap();
        let redeemed = actuator.redeem(&ticket, &intent, started + late).unwrap();
        prop_assert_eq!((redeemed.seq(), redeemed.intent()), (seq, intent));
        prop_assert_eq!(actuator.redeem(&ticket, &intent, started + late).unwrap_err(), TicketError::Used(seq));
    }

    #[test]
    fn a_changed_field_does_not_verify(change in change(), at: u8, digest in prop_oneof![Just(true), Just(false)]) {
        let good = issue(9, INTENT, START);
        let mut bad = good.clone();
        change(&mut bad, at);
        prop_assert_ne!(&bad, &good);
        let digest = if digest { bad.intent } else { INTENT };
        let error = actuator("spawner", START).redeem(&bad, &digest, START).unwrap_err();
        prop_assert_eq!(error, TicketError::Forged(bad.seq));
        // The attempt has spent nothing.
        prop_assert!(actuator("spawner", START).redeem(&good, &INTENT, START).is_ok());
    }

    #[test]
    fn another_key_makes_no_ticket(key: [u8; 32]) {
        let keys = Keys::new([(name("spawner"), Key::new(&key))]).unwrap();
        let ticket = Issuer::new(keys).issue(1, INTENT, "spawner", START, SECOND_NS).unwrap();
        let refused = actuator("spawner", START).redeem(&ticket, &INTENT, START).map(|r| r.seq());
        prop_assert_eq!(refused, if key == [7; 32] { Ok(1) } else { Err(TicketError::Forged(1)) });
    }

    #[test]
    fn another_intent_is_refused(other: [u8; 32]) {
        let ticket = issue(9, INTENT, START);
        let asked = Sha256(other);
        let refused = actuator("spawner", START).redeem(&ticket, &asked, START).map(drop);
        let wanted = if asked == INTENT {
            Ok(())
        } else {
            Err(TicketError::OtherIntent { seq: 9, intended: INTENT, asked })
        };
        prop_assert_eq!(refused, wanted);
    }

    #[test]
    fn only_between_issue_and_expiry_and_never_from_before_the_start(
        issued in START - 90 * SECOND_NS..START + 90 * SECOND_NS,
        now in START..START + 90 * SECOND_NS,
        ttl in 0..2 * TTL_MAX_NS,
    ) {
        let ticket = Issuer::new(keys()).issue(5, INTENT, "spawner", issued, ttl).unwrap();
        prop_assert!(ticket.expires_ns - ticket.issued_ns <= TTL_MAX_NS);
        let refused = actuator("spawner", START).redeem(&ticket, &INTENT, now).map(drop);
        let wanted = if ttl == 0 {
            Err(TicketError::Lifetime(5))
        } else if issued < START {
            Err(TicketError::BeforeStart(5))
        } else if issued > now + 10_000_000 {
            Err(TicketError::Future { seq: 5, ahead_ns: issued - now })
        } else if now >= ticket.expires_ns {
            Err(TicketError::Expired { seq: 5, ago_ns: now - ticket.expires_ns })
        } else {
            Ok(())
        };
        prop_assert_eq!(refused, wanted);
    }

    #[test]
    fn the_fixed_form_round_trips_and_is_unambiguous(
        seq: u64, intent: [u8; 32], issued_ns: u64, expires_ns: u64, mac: [u8; 32], who in "[a-z][a-z0-9-]{0,30}",
    ) {
        let (intent, mac, actuator) = (Sha256(intent), Sha256(mac), name(&who));
        let ticket = Ticket { seq, intent, actuator, issued_ns, expires_ns, mac };
        prop_assert_eq!(decode(&encode(&ticket)), Some(ticket));
    }

    #[test]
    fn bytes_that_are_no_ticket_are_refused_and_nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..2 * LEN)) {
        if let Some(ticket) = decode(&bytes) {
            prop_assert_eq!(&encode(&ticket)[..], &bytes[..]);
        }
        let _ = Keys::parse(&bytes);
    }

    #[test]
    fn keys_round_trip(all in proptest::collection::btree_map("[a-z][a-z0-9-]{0,30}", any::<[u8; 32]>(), 0..=KEYS_MAX)) {
        let keys = Keys::new(all.iter().map(|(who, key)| (name(who), Key::new(key)))).unwrap();
        let text = keys.to_text();
        let mut file = std::io::Cursor::new(text.to_vec());
        file.set_position(7);
        let read = Keys::read(file).unwrap();
        prop_assert_eq!(&read.to_text()[..], &text[..]);
        prop_assert_eq!(read.names().count(), all.len());
        for who in all.keys() {
            prop_assert_eq!(read.get(who).unwrap().bytes(), &all[who]);
            prop_assert_eq!(read.only(who).names().count(), 1);
        }
    }
}

/// Every field by itself, where the changed one is still a name.
#[test]
fn another_actuator_refuses_the_ticket_and_a_changed_name_does_not_verify() {
    let mut ticket = issue(9, INTENT, START);
    let error = actuator("vault", START).redeem(&ticket, &INTENT, START).unwrap_err();
    assert_eq!(error, TicketError::OtherActuator { seq: 9, named: name("spawner"), here: name("vault") });
    ticket.actuator = name("vault");
    let error = actuator("vault", START).redeem(&ticket, &INTENT, START).unwrap_err();
    assert_eq!(error, TicketError::Forged(9));
}

/// The bytes written out by hand and given to Python's hmac module.
#[test]
fn the_mac_is_what_another_program_computes() {
    let ticket = Issuer::new(keys()).issue(1, INTENT, "spawner", 2, 3).unwrap();
    assert_eq!(ticket.mac.to_string(), MAC_ELSEWHERE);
}

const MAC_ELSEWHERE: &str = "9f24039b1167d88bd20b61e35880065e174e664e18de44ebb6e2a6f7a9b048cf";

#[test]
fn a_lifetime_longer_than_the_limit_is_refused_even_from_the_ledger() {
    // Not to be had from an issuer, so its MAC is made here.
    use hmac::Mac;
    let mut ticket = issue(9, INTENT, START);
    ticket.expires_ns = ticket.issued_ns + TTL_MAX_NS + 1;
    let key = keys().get("spawner").unwrap().clone();
    ticket.mac = Sha256(crate::form::mac(&key, &ticket).finalize().into_bytes().into());
    let error = actuator("spawner", START).redeem(&ticket, &INTENT, START).unwrap_err();
    assert_eq!(error, TicketError::Lifetime(9));
}

#[test]
fn what_was_used_is_remembered_within_a_bound() {
    let mut spawner = actuator("spawner", START);
    for seq in 0..USED_MAX as u64 {
        spawner.redeem(&issue(seq, INTENT, START), &INTENT, START).map(drop).unwrap();
    }
    let next = issue(u64::MAX, INTENT, START);
    assert_eq!(spawner.redeem(&next, &INTENT, START).unwrap_err(), TicketError::Full);
    assert_eq!(spawner.redeem(&issue(0, INTENT, START), &INTENT, START).unwrap_err(), TicketError::Used(0));
    let later = START + 11 * SECOND_NS;
    spawner.redeem(&issue(u64::MAX, INTENT, later), &INTENT, later).map(drop).unwrap();
    let again = issue(0, INTENT, START);
    assert!(matches!(spawner.redeem(&again, &INTENT, later), Err(TicketError::Expired { .. })));
}

#[test]
fn nothing_is_redeemed_with_a_key_that_was_forgotten() {
    let mut spawner = actuator("spawner", START);
    spawner.forget();
    assert!(spawner.redeem(&issue(1, INTENT, START), &INTENT, START).is_err());
    let zeros = Keys::new([(name("spawner"), Key::new(&[0; 32]))]).unwrap();
    for now in [START, u64::MAX - SECOND_NS, u64::MAX] {
        let ticket = Issuer::new(zeros.clone()).issue(1, INTENT, "spawner", now, SECOND_NS).unwrap();
        assert!(spawner.redeem(&ticket, &INTENT, now).is_err(), "the key of zeros, at {now}");
    }
}

#[test]
fn wrong_keys_are_refused_and_never_shown() {
    let digits = "07".repeat(32);
    let line = format!("spawner {digits}\n");
    assert!(Keys::parse(line.as_bytes()).is_ok() && Keys::parse(b"").is_ok());
    let endless = Keys::read(std::io::Cursor::new(line.repeat(1000))).unwrap_err();
    assert!(matches!(endless, KeysError::TooLong(bytes) if bytes < 4096), "no more is read: {endless}");
    let many: String = (0..=KEYS_MAX).map(|n| format!("a{n} {digits}\n")).collect();
    for (text, wanted) in [
        (line.trim_end().to_owned(), KeysError::Line(0)),
        ("\n".into(), KeysError::Line(1)),
        (format!("{line}{}", line.to_uppercase()), KeysError::Line(2)),
        (format!("{line}vault {}\n", &digits[1..]), KeysError::Line(2)),
        (format!("vault  {digits}\n"), KeysError::Line(1)),
        (format!("vault {digits} \n"), KeysError::Line(1)),
        (format!("{line}{line}"), KeysError::Twice(name("spawner"))),
        (many, KeysError::TooMany),
        (line.repeat(50), KeysError::TooLong(50 * line.len())),
    ] {
        let error = Keys::parse(text.as_bytes()).unwrap_err();
        assert_eq!(error, wanted, "{text:?}");
        assert!(!error.to_string().contains("0707"));
    }
    assert!(!format!("{:?} {:?}", keys(), actuator("spawner", 1)).contains("7, 7"));
}

#[test]
fn no_key_no_ticket() {
    let issuer = Issuer::new(keys().only("vault"));
    assert_eq!(issuer.issue(1, INTENT, "spawner", START, SECOND_NS), None);
    assert!(issuer.knows("vault") && !issuer.knows("spawner"));
}
