//! Files that leave the service and files that come from elsewhere.

use super::corpus::contents;
use super::world::{PASSPHRASE, World, file, put, run, unseal};
use crate::file::{self, NewWay, Secret, Way};
use octant_api::vault::{
    DestroyRequest, GrantRequest, Kind, Mode, NewSlot, PutRequest, RemoveRequest, RestoreRequest,
    RevealRequest, RevokeRequest, RotateRequest, SlotAddRequest, SlotKind, State, Subject, With,
};
use octant_ids::Sha256;
use std::fs;

/// What another program reads of a vault is what the service was given.
#[test]
fn a_file_of_the_service_has_what_was_put_into_it() {
    run(async {
        let world = World::new();
        let made = world.init().await;
        let password = PutRequest { kind: Kind::Password, username: "app".into(), ..put("db") };
        world.call(&password, Some(b"first")).await.unwrap();
        let rotate = RotateRequest { name: "db".parse().unwrap(), not_after_ms: None, generate: false };
        for value in [b"second", b"third ", b"fourth"] {
            world.call(&rotate, Some(value)).await.unwrap();
        }
        world.call(&DestroyRequest { name: "db".parse().unwrap(), version: 2 }, None).await.unwrap();
        world.put("gone", b"gone").await;
        world.call(&RemoveRequest { name: "gone".parse().unwrap() }, None).await.unwrap();
        let grant = |to: u8| GrantRequest {
            name: "db".parse().unwrap(),
            to: Subject::Manifest(Sha256([to; 32])),
            modes: vec![Mode::Use],
            hosts: vec!["db.example.org".into()],
            ttl_max_ms: None,
            unlimited: false,
            until_ms: None,
            reason: "a test".into(),
        };
        let revoked = world.call(&grant(1), None).await.unwrap().0;
        let what = octant_api::vault::Revoke::Grant(revoked.id);
        world.call(&RevokeRequest { what }, None).await.unwrap();
        let granted = world.call(&grant(2), None).await.unwrap().0;
        for _ in 0..2 {
            // Appended to the file that was made, and then in one that was written anew, and appended to that.
            let opened = file::open(&fs::read(file(&world.scratch)).unwrap(), Way::Passphrase(PASSPHRASE));
            let opened = opened.unwrap();
            assert_eq!((&opened.vault, opened.torn), (&made.vault, 0));
            assert_eq!(opened.epoch, world.vault.status().epoch);
            let Secret { info, values } = &opened.contents.secrets[0];
            assert_eq!(
                (info.name.as_str(), info.kind, info.username.as_str()),
                ("db", Kind::Password, "app")
            );
            let wanted = [(1, b"first".to_vec()), (3, b"third ".to_vec()), (4, b"fourth".to_vec())];
            assert_eq!(values, &wanted.into());
            assert_eq!(opened.contents.grants, std::slice::from_ref(&granted));
            let slot = NewSlot::of(SlotKind::StaticFile);
            world.call(&SlotAddRequest { slot }, Some(&[7; 32])).await.unwrap();
            world.put(&format!("new/{}", world.vault.status().epoch), b"x").await;
        }
    });
}

/// A vault that another program made becomes this machine's.
#[test]
fn a_file_from_elsewhere_is_restored_unsealed_and_used() {
    run(async {
        let contents = contents();
        let made = file::make(&contents, &[NewWay::StaticFile(&[9; 40]), NewWay::Shares(2, 2)]).unwrap();
        let world = World::new();
        let path = world.scratch.path("from elsewhere");
        fs::write(&path, &made.bytes).unwrap();
        let restore = RestoreRequest { reason: "it moves here".into() };
        let from = fs::File::open(&path).unwrap().into();
        let copied = world.operator.call_with(&restore, &[from]).await.unwrap().0;
        assert_eq!((copied.vault, copied.bytes), (made.vault, made.bytes.len() as u64));
        assert_eq!(world.vault.status().state, State::Sealed);
        for share in &made.shares {
            world.call(&unseal(With::Share), Some(share.as_bytes())).await.unwrap();
        }
        let status = world.vault.status();
        assert_eq!((status.state, status.secrets), (State::Unsealed, Some(5)));
        for Secret { info, values } in &contents.secrets {
            for (version, value) in values.iter().filter(|_| info.kind != Kind::KeyPair) {
                let (name, reason) = (info.name.clone(), "a test".to_owned());
                let reveal = RevealRequest { name, version: Some(*version), reason };
                assert_eq!(world.call(&reveal, None).await.unwrap().1.as_ref(), Some(value), "{}", info.name);
            }
        }
        world.put("goes/on", b"x").await;
    });
}
