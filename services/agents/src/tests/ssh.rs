//! Logins over SSH: what the vault is asked to sign, and what it is not.

use super::world::{Machinery, World, key, listen, manifest, signed};
use ed25519_dalek::{Signer, SigningKey as Pair};
use octant_api::agent::{SshKeysRequest, SshLoginRequest};
use octant_api::agents::SpawnRequest;
use octant_api::error::{ApiError, Code};
use octant_api::rpc::{Dispatch, Interface, Meta, Method, Request, params, reply, unreachable_method};
use octant_api::text::Base64;
use octant_api::vault::{self, Lease, LeaseRequest, Mode, SignRequest, Signed, Token};
use octant_ids::{Aid, Principal};
use octant_manifest::{Audience, Ceiling, Effective, Envelope, Machine, Roles, TrustedKeys};
use octant_ssh::{HostKey, Writer, ed25519_key, ed25519_signature};
use octant_wire::{Call, WireError, shutdown};
use std::sync::{Arc, Mutex};

const SESSION: [u8; 32] = [5; 32];

fn pair(seed: u8) -> Pair {
    Pair::from_bytes(&[seed; 32])
}

fn public(pair: &Pair) -> [u8; 32] {
    pair.verifying_key().to_bytes()
}

/// A vault with one key pair, whose newest lease alone is good.
struct Vault {
    pair: Pair,
    given: Mutex<u8>,
    /// For which hosts it has signed.
    signed: Mutex<Vec<Option<String>>>,
}

struct Served(Arc<Vault>);

impl Dispatch<Call> for Served {
    type Request = vault::Call;
    const INTERFACE: &'static Interface = vault::INTERFACE;

    fn parse(method: &'static Method, text: &str) -> Result<(vault::Call, Meta), ApiError> {
        match method.name {
            "vault.lease" => params(method, text).map(|(request, meta)| (vault::Call::Lease(request), meta)),
            "vault.sign" => params(method, text).map(|(request, meta)| (vault::Call::Sign(request), meta)),
            _ => Err(unreachable_method(method)),
        }
    }

    async fn handle(&self, request: vault::Call, _: Call, out: &mut Vec<u8>) -> Result<(), ApiError> {
        let Self(vault) = self;
        let public_key = Base64(public(&vault.pair).to_vec());
        match request {
            vault::Call::Lease(LeaseRequest { mode: Mode::Sign, name, .. })
                if name.as_str() == "prod/deploy" =>
            {
                *vault.given.lock().unwrap() += 1;
                let lease = Lease {
                    token: Token([*vault.given.lock().unwrap(); 32]),
                    mode: Mode::Sign,
                    expires_in_ms: None,
                    renewable_ms: None,
                    hosts: Vec::new(),
                    username: String::new(),
                    public_key: Some(public_key),
                };
                reply(LeaseRequest::METHOD, &lease, out)
            }
            vault::Call::Sign(SignRequest { token: Token([byte, ..]), message, host, .. })
                if byte == *vault.given.lock().unwrap() =>
            {
                vault.signed.lock().unwrap().push(host);
                let signature = Base64(vault.pair.sign(&message.0).to_bytes().to_vec());
                reply(SignRequest::METHOD, &Signed { version: 1, public_key, signature }, out)
            }
            _ => Err(ApiError::new(Code::Denied, "ask the vault", "vault", "there is no such lease", "")),
        }
    }
}

/// Rights to log in as git at the host with this key, and nowhere else.
fn rights(host: &Pair) -> Effective {
    let host = ed25519_key(&public(host));
    let fingerprint = HostKey::parse(&host).unwrap().fingerprint();
    let grant = format!("ssh prod/deploy to git@git.example.org:22 key {fingerprint}");
    let text = manifest("one", "true", &[])
        .replace("hosts = []", "hosts = [\"tcp://git.example.org:22\"]")
        .replace("grants = []", &format!("grants = [{grant:?}]"));
    let envelope = octant_manifest::sign(text.as_bytes(), &[&key()]);
    let keys = TrustedKeys::from_files(&[("ada.pub".into(), key().public_file("ada", "admin"))]).unwrap();
    let audience = Audience { machine: "m1", now_ms: 0 };
    let verified = Envelope::parse(&envelope).unwrap().verify(&keys, &audience).unwrap();
    let ceiling = Ceiling::new(&Roles::builtin(), Machine { memory_bytes: 1 << 30, cpus: 2 });
    Effective::root(&verified.declare().unwrap(), &ceiling).unwrap()
}

/// What a client asks that logs in as `user` with the vault's key, at a host that has signed the session.
fn asked(user: &str, client: &Pair, host: &Pair) -> SshLoginRequest {
    let data = Writer::default()
        .string(&SESSION)
        .byte(50)
        .string(user.as_bytes())
        .string(b"ssh-connection")
        .string(b"publickey")
        .byte(1)
        .string(b"ssh-ed25519")
        .string(&ed25519_key(&public(client)));
    SshLoginRequest {
        data: Base64(data.done()),
        host_key: Base64(ed25519_key(&public(host))),
        session: Base64(SESSION.to_vec()),
        signature: Base64(ed25519_signature(&host.sign(&SESSION).to_bytes())),
        forwarded: false,
    }
}

async fn granted(world: &World, host: &Pair) -> Aid {
    let request = SpawnRequest { envelope: signed("one", "exec sleep 60", &[]), task: None };
    let aid = world.operator.call(&request).await.unwrap().aid;
    // A workstation with a network needs a gate; what is asked here needs the rights alone.
    world.manager.give_rights(aid, rights(host));
    aid
}

fn denied<T: std::fmt::Debug>(answer: Result<T, WireError>) -> String {
    match answer.unwrap_err() {
        WireError::Api(error) => {
            assert_eq!(error.code, Code::Denied, "{error}");
            error.to_string()
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_login_is_signed_for_the_host_and_user_that_are_granted_and_for_no_other() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    let (host, elsewhere) = (pair(1), pair(2));
    let vault = Arc::new(Vault { pair: pair(7), given: Mutex::default(), signed: Mutex::default() });
    let (_serving, stop) = shutdown();
    let path = machinery.scratch.path().join("vault.sock");
    listen(path, Served(Arc::clone(&vault)), Principal::Service("agents".parse().unwrap()), &stop);
    let aid = granted(&world, &host).await;
    let guest = machinery.guest(aid);
    let keys = guest.call(&SshKeysRequest {}).await.unwrap().keys;
    assert_eq!((keys.len(), keys[0].secret.as_str()), (1, "prod/deploy"));
    assert_eq!(keys[0].public_key.0, public(&vault.pair));
    let good = asked("git", &vault.pair, &host);
    let signed = guest.call(&good).await.unwrap();
    let signature = ed25519_dalek::Signature::from_slice(&signed.signature.0).unwrap();
    vault.pair.verifying_key().verify_strict(&good.data.0, &signature).unwrap();
    assert_eq!(*vault.given.lock().unwrap(), 1, "one lease serves");
    // A lease that has ended since is taken anew.
    *vault.given.lock().unwrap() = 9;
    guest.call(&good).await.unwrap();
    assert_eq!(*vault.signed.lock().unwrap(), vec![Some("git.example.org".to_owned()); 2]);

    assert!(denied(guest.call(&asked("git", &vault.pair, &elsewhere)).await).contains("no grant"));
    assert!(denied(guest.call(&asked("root", &vault.pair, &host)).await).contains("root"));
    assert!(denied(guest.call(&asked("git", &pair(8), &host)).await).contains("no grant"));
    let claimed =
        SshLoginRequest { host_key: good.host_key.clone(), ..asked("git", &vault.pair, &elsewhere) };
    assert!(denied(guest.call(&claimed).await).contains("not by the host's key"));
    let forwarded = SshLoginRequest { forwarded: true, ..good.clone() };
    assert!(denied(guest.call(&forwarded).await).contains("forwarded"));
    let text = SshLoginRequest { data: Base64(b"SSHSIG".to_vec()), ..good };
    assert!(denied(guest.call(&text).await).contains("no request to log in"));
    assert_eq!(vault.signed.lock().unwrap().len(), 2, "and the vault was asked for none of them");
}
