//! Argon2id against its RFC and against another program, and what is refused.

use super::*;
use crate::tests::hex_of;

/// RFC 9106 section 5.3. Its memory is below the floor, and it has a secret and associated data, which no passphrase
/// here has: so this is the library alone.
#[test]
fn the_library_is_rfc_9106() {
    let data = argon2::AssociatedData::new(&[4; 12]).unwrap();
    let params =
        argon2::ParamsBuilder::new().m_cost(32).t_cost(3).p_cost(4).output_len(32).data(data).build();
    let params = params.unwrap();
    let mut memory = vec![Block::new(); params.block_count()];
    let argon2 = Argon2::new_with_secret(&[3; 8], Algorithm::Argon2id, Version::V0x13, params).unwrap();
    let mut tag = [0; 32];
    argon2.hash_password_into_with_memory(&[1; 32], &[2; 16], &mut tag, &mut memory[..]).unwrap();
    assert_eq!(tag, hex_of("0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659"));
}

/// The same from OpenSSL's Argon2id.
#[test]
fn a_key_is_what_another_program_computes() {
    let ascending: Vec<u8> = (100..132).collect();
    let salt = ascending.first_chunk().unwrap();
    let key = passphrase_key(b"correct horse battery staple", salt, Argon2Cost::DEFAULT).unwrap();
    assert_eq!(key.bytes(), &hex_of("f7da3081e3c4448766a51e805a09ea03f1bc98e3308566bc941568fef53cbd8d"));
    let cost = Argon2Cost { memory_kib: 65537, passes: 4, lanes: 2 };
    let key = passphrase_key(b"x", salt, cost).unwrap();
    assert_eq!(key.bytes(), &hex_of("33b0ef476a6827bdf2241676f82267a6f281ab289d26f65786269c8774e10212"));
}

#[test]
fn a_cost_below_the_floor_or_above_the_ceiling_is_refused_before_anything_is_spent() {
    let Argon2Cost { memory_kib, passes, lanes } = Argon2Cost::DEFAULT;
    for (cost, wanted) in [
        (Argon2Cost { memory_kib: 65535, passes, lanes }, CostError::Memory(65535)),
        (Argon2Cost { memory_kib: 0, passes: 0, lanes: 0 }, CostError::Memory(0)),
        (Argon2Cost { memory_kib: 2 * 1024 * 1024 + 1, passes, lanes }, CostError::Memory(2_097_153)),
        (Argon2Cost { memory_kib: u32::MAX, passes, lanes }, CostError::Memory(u32::MAX)),
        (Argon2Cost { memory_kib, passes: 2, lanes }, CostError::Passes(2)),
        (Argon2Cost { memory_kib, passes: 65, lanes }, CostError::Passes(65)),
        (Argon2Cost { memory_kib, passes, lanes: 0 }, CostError::Lanes(0)),
        (Argon2Cost { memory_kib, passes, lanes: 17 }, CostError::Lanes(17)),
    ] {
        assert_eq!(cost.check(), Err(wanted));
        assert_eq!(passphrase_key(b"x", &[0; 32], cost).unwrap_err(), PassphraseError::Cost(wanted));
        assert!(wanted.to_string().contains("not between"), "{wanted}");
    }
    let Argon2Cost { memory_kib: most, passes: often, lanes: many } = Argon2Cost::CEILING;
    let dear = Argon2Cost { memory_kib: most, passes: 8, lanes: many };
    let long = Argon2Cost { memory_kib: 256 * 1024, passes: often, lanes: many };
    for cost in [Argon2Cost::FLOOR, Argon2Cost::DEFAULT, dear, long] {
        assert_eq!(cost.check(), Ok(()));
        // The library takes everything in between.
        Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32)).unwrap();
    }
    assert_eq!(Argon2Cost::default(), Argon2Cost::DEFAULT);
}

/// Both within their limits would be two minutes of one processor, for whoever reads a file that says so.
#[test]
fn memory_and_passes_are_limited_together() {
    let Argon2Cost { memory_kib, passes, lanes } = Argon2Cost::CEILING;
    for (memory_kib, passes) in
        [(memory_kib, passes), (memory_kib, 9), (256 * 1024 + 1, passes), (1024 * 1024, 17)]
    {
        let (cost, wanted) =
            (Argon2Cost { memory_kib, passes, lanes }, CostError::Work { memory_kib, passes });
        assert_eq!(cost.check(), Err(wanted));
        assert_eq!(passphrase_key(b"x", &[0; 32], cost).unwrap_err(), PassphraseError::Cost(wanted));
        assert!(wanted.to_string().contains("more than 16777216 KiB in all"), "{wanted}");
    }
}

#[test]
fn a_passphrase_has_a_length() {
    for len in [0, PASSPHRASE_MAX + 1, 1 << 20] {
        let error = passphrase_key(&vec![b'p'; len], &[0; 32], Argon2Cost::DEFAULT).unwrap_err();
        assert_eq!(error, PassphraseError::Length(len));
        assert!(!error.to_string().contains("pp"));
    }
}

#[test]
fn memory_that_there_is_not_is_an_error() {
    assert!(Memory::new(usize::MAX / 1024).is_none());
}

#[test]
fn a_cost_is_written_with_its_units_and_nothing_else_is_read() {
    let text = r#"{"memory_kib":65536,"passes":3,"lanes":1}"#;
    assert_eq!(serde_json::to_string(&Argon2Cost::DEFAULT).unwrap(), text);
    assert_eq!(serde_json::from_str::<Argon2Cost>(text).unwrap(), Argon2Cost::DEFAULT);
    for wrong in
        [r#"{"memory_kib":65536,"passes":3}"#, r#"{"memory_kib":65536,"passes":3,"lanes":1,"more":1}"#]
    {
        assert!(serde_json::from_str::<Argon2Cost>(wrong).is_err(), "{wrong}");
    }
}
