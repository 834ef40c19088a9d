//! The form of a share, what is tolerated in it, and what is told apart.

use super::*;
use proptest::prelude::proptest;
use proptest::{prop_assert, prop_assert_eq};

const LABEL: Label =
    Label { vault: [0xab; VAULT_LEN], slot: 7, set: [0xcd; SET_LEN], threshold: 2, count: 3 };

fn shares(label: &Label) -> Vec<LabelledShare> {
    split(&Key::from_bytes(&[0x5a; KEY_LEN]).unwrap(), label).unwrap()
}

fn labelled(label: Label, x: u8, y: &[u8; KEY_LEN]) -> LabelledShare {
    LabelledShare { label, share: Share::new(x, Key::from_bytes(y).unwrap()).unwrap() }
}

/// The bytes put together by hand, and given to Python's hashlib and base64.
#[test]
fn the_text_is_what_another_program_makes() {
    let ascending: Vec<u8> = (0..32).collect();
    let share = labelled(LABEL, 3, ascending.first_chunk().unwrap());
    assert_eq!(share.to_text().as_str(), TEXT);
    let read = LabelledShare::parse(TEXT).unwrap();
    assert_eq!((read.label(), read.share().x(), read.share().y()[..].to_vec()), (&LABEL, 3, ascending));
}

const TEXT: &str = "octant-share-1-vov2x-k5lvo-v2xk5-lvov2-xk5lv-maaaa-ahzxg-43ton-zxg42-aqdam-aacaq-daqcq-mby\
                    ib-efawd-anbyh-raeis-cmkbk-fqxda-mrugy-4dupb-6sew5-cta";

#[test]
fn base32_is_rfc_4648() {
    let all: String = (0..32).map(|value| char::from(base32_character(value))).collect();
    assert_eq!(all, "abcdefghijklmnopqrstuvwxyz234567");
    for character in 0..=255_u8 {
        let place = all.bytes().position(|c| c == character);
        let wanted = place.map_or(0, |place| u8::try_from(place).unwrap());
        assert_eq!(base32_value(character), (wanted, place.is_some()), "{character}");
    }
}

proptest! {
    #[test]
    fn a_share_round_trips(
        vault: [u8; VAULT_LEN], slot: u32, set: [u8; SET_LEN], threshold in 2..=16_u8, more in 0..=14_u8, at: u8, y: [u8; KEY_LEN],
    ) {
        let count = (threshold + more).min(16);
        let label = Label { vault, slot, set, threshold, count };
        let share = labelled(label, at % count + 1, &y);
        let text = share.to_text();
        prop_assert_eq!(text.len(), 144);
        let read = LabelledShare::parse(&text).unwrap();
        prop_assert_eq!((read.label(), read.share().x(), read.share().y()), (&label, at % count + 1, &y));
    }

    #[test]
    fn case_spaces_and_dashes_do_not_matter(y: [u8; KEY_LEN], breaks in proptest::collection::vec(0..140_usize, 0..20)) {
        let text = labelled(LABEL, 1, &y).to_text();
        let mut other: Vec<char> = text.to_uppercase().chars().filter(|c| *c != '-').collect();
        for at in breaks {
            other.insert(at.min(other.len()), [' ', '-', '\n', '\t'][at % 4]);
        }
        let read = LabelledShare::parse(&other.into_iter().collect::<String>()).unwrap();
        prop_assert_eq!(read.share().y(), &y);
    }

    #[test]
    fn one_wrong_character_is_a_typing_error(y: [u8; KEY_LEN], at in 0..CHARACTERS, other in 0..31_u8) {
        let text = labelled(LABEL, 1, &y).to_text();
        let mut characters: Vec<u8> = text[PREFIX.len()..].bytes().filter(|c| *c != b'-').collect();
        let (value, _) = base32_value(characters[at]);
        characters[at] = base32_character((value + 1 + other) % 32);
        let text = format!("{PREFIX}{}", String::from_utf8(characters).unwrap());
        prop_assert_eq!(LabelledShare::parse(&text).unwrap_err(), ShareError::Checksum);
    }

    #[test]
    fn two_that_changed_places_are_a_typing_error(y: [u8; KEY_LEN], at in 0..CHARACTERS - 1) {
        let text = labelled(LABEL, 1, &y).to_text();
        let mut characters: Vec<u8> = text[PREFIX.len()..].bytes().filter(|c| *c != b'-').collect();
        characters.swap(at, at + 1);
        let same = characters[at] == characters[at + 1];
        let text = format!("{PREFIX}{}", String::from_utf8(characters).unwrap());
        prop_assert_eq!(LabelledShare::parse(&text).err(), (!same).then_some(ShareError::Checksum));
    }

    #[test]
    fn no_text_is_too_strange(text in ".{0,200}", tail in "[a-z2-7 0-9-]{0,140}") {
        prop_assert!(LabelledShare::parse(&text).is_err());
        let _ = LabelledShare::parse(&format!("{PREFIX}{tail}"));
        let _ = LabelledShare::parse(&format!("{PREFIX}{text}"));
    }

    #[test]
    fn enough_shares_of_one_set_give_the_secret(secret: [u8; KEY_LEN], slot: u32, threshold in 2..=8_u8) {
        let label = Label::new([3; VAULT_LEN], slot, threshold, 8).unwrap();
        let shares = split(&Key::from_bytes(&secret).unwrap(), &label).unwrap();
        let texts: Vec<_> = shares.iter().rev().take(usize::from(threshold)).map(LabelledShare::to_text).collect();
        let read: Vec<_> = texts.iter().map(|text| LabelledShare::parse(text).unwrap()).collect();
        let combined = combine(&read, &label).unwrap();
        prop_assert_eq!(combined.bytes(), &secret);
        let refused = combine(&read[1..], &label).unwrap_err();
        prop_assert_eq!(refused, ShareError::Shamir(ShamirError::TooFew { have: threshold - 1, threshold }));
    }
}

#[test]
fn what_is_wrong_with_a_text_is_told_apart() {
    let text = shares(&LABEL)[0].to_text();
    let data = &text[PREFIX.len()..];
    for (wrong, wanted) in [
        (String::new(), ShareError::NotAShare),
        ("octant-shar".into(), ShareError::NotAShare),
        (data.to_owned(), ShareError::NotAShare),
        ("octant-share".into(), ShareError::Version),
        (format!("octant-share-2-{data}"), ShareError::Version),
        (PREFIX.into(), ShareError::Length(0)),
        (format!("{PREFIX}{}", &data[1..]), ShareError::Length(107)),
        (format!("{}a", &*text), ShareError::Length(109)),
        (format!("{PREFIX}0{}", &data[1..]), ShareError::Character(1)),
        (format!("{PREFIX}{}é{}", &data[..6], &data[7..]), ShareError::Character(6)),
        (format!("{}1", &*text), ShareError::Character(109)),
        (" ".repeat(TEXT_MAX + 1), ShareError::TooLong(TEXT_MAX + 1)),
        (text.repeat(4), ShareError::TooLong(4 * text.len())),
    ] {
        assert_eq!(LabelledShare::parse(&wrong).unwrap_err(), wanted, "{wrong:?}");
        let message = wanted.to_string();
        assert!(data.split('-').all(|group| !message.contains(group)), "{message}");
    }
}

/// The last character has room for four bits more than there are: a share has one text, not sixteen.
#[test]
fn bits_behind_the_last_byte_are_a_typing_error() {
    let text = shares(&LABEL)[0].to_text();
    let (last, _) = base32_value(text.as_bytes()[text.len() - 1]);
    assert_eq!(last & 15, 0);
    for bits in 1..16 {
        let other = format!("{}{}", &text[..text.len() - 1], char::from(base32_character(last | bits)));
        assert_eq!(LabelledShare::parse(&other).unwrap_err(), ShareError::Checksum);
    }
}

#[test]
fn a_share_that_octant_does_not_make_is_refused() {
    for (threshold, count, x) in [(1, 3, 1), (4, 3, 1), (2, 17, 1), (2, 3, 4), (0, 0, 1)] {
        let text = labelled(Label { threshold, count, ..LABEL }, x, &[1; KEY_LEN]).to_text();
        let refused = LabelledShare::parse(&text).unwrap_err();
        assert_eq!(refused, ShareError::Shape { x, threshold, count });
    }
}

#[test]
fn shares_of_another_vault_slot_or_set_are_refused_by_name() {
    let (vault, set) = ([0x11; VAULT_LEN], [0x22; SET_LEN]);
    for (label, wanted) in [
        (
            Label { vault, set, slot: 8, ..LABEL },
            ShareError::OtherVault { x: 2, found: Hex(vault), here: Hex(LABEL.vault) },
        ),
        (Label { set, slot: 8, ..LABEL }, ShareError::OtherSlot { x: 2, found: 8, here: 7 }),
        (Label { set, ..LABEL }, ShareError::OtherSet { x: 2, found: Hex(set), here: Hex(LABEL.set) }),
        (Label { threshold: 3, ..LABEL }, ShareError::OtherShape { x: 2, threshold: 3, count: 3 }),
        (Label { count: 4, ..LABEL }, ShareError::OtherShape { x: 2, threshold: 2, count: 4 }),
    ] {
        let mut mixed = shares(&LABEL);
        let stranger = shares(&label).swap_remove(1);
        assert_eq!(stranger.belongs_to(&LABEL), Err(wanted));
        mixed[1] = stranger;
        assert_eq!(combine(&mixed, &LABEL).unwrap_err(), wanted);
    }
    let message = ShareError::OtherVault { x: 2, found: Hex(vault), here: Hex(LABEL.vault) }.to_string();
    assert!(message.contains(&"11".repeat(16)) && message.contains(&"ab".repeat(16)), "{message}");
}

#[test]
fn a_new_set_has_another_identifier() {
    let new = || Label::new([0; VAULT_LEN], 0, 2, 3).unwrap();
    assert_ne!(new().set, new().set);
    assert!(Label::new([0; VAULT_LEN], 0, 1, 3).is_err());
}
