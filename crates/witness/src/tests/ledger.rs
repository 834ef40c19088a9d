//! What a feeder sees of a ledger: three methods over the wire.

use super::{Dir, Tree};
use octant_api::error::{ApiError, Code};
use octant_api::ledger::{
    CheckpointInfo, CheckpointRequest, Consistency, ConsistencyRequest, CosignRequest, INTERFACE, Witnessed,
};
use octant_api::rpc::{self, Dispatch, Interface, Meta, Method, Request};
use octant_tlog::checkpoint::Signed;
use octant_tlog::note::Verifier;
use octant_wire::{Call, Identity, Limits, Trigger, serve, shutdown};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::net::UnixListener;

/// A ledger that keeps one checkpoint, of all that it has.
pub(super) struct Book {
    pub(super) tree: Tree,
    pub(super) witnesses: Vec<Verifier>,
    /// The newest checkpoint with its cosignatures.
    pub(super) signed: Signed,
    /// How many cosignatures it took.
    pub(super) taken: usize,
    /// How many checkpoints it was asked for.
    pub(super) asked: usize,
    /// Entries that are appended each time the checkpoint is asked for.
    pub(super) grows: u64,
}

impl Book {
    pub(super) fn publish(&mut self, tree: Tree) {
        self.signed = Signed::parse_unverified(&tree.checkpoint(tree.size())).unwrap();
        self.tree = tree;
    }

    fn witnessed(&self) -> Witnessed {
        let have = self.signed.cosigners(&self.witnesses);
        Witnessed { have: have.iter().map(|key| key.name().to_owned()).collect(), ..Witnessed::default() }
    }
}

#[derive(Clone)]
pub(super) struct Ledger(Arc<Mutex<Book>>);

pub(super) enum Ask {
    Checkpoint,
    Consistency(ConsistencyRequest),
    Cosign(CosignRequest),
}

fn read<R: Request>(
    method: &'static Method,
    params: &str,
    ask: impl FnOnce(R) -> Ask,
) -> Result<(Ask, Meta), ApiError> {
    rpc::params::<R>(method, params).map(|(request, meta)| (ask(request), meta))
}

impl Dispatch<Call> for Ledger {
    type Request = Ask;
    const INTERFACE: &'static Interface = INTERFACE;

    fn parse(method: &'static Method, params: &str) -> Result<(Ask, Meta), ApiError> {
        match method.name {
            "ledger.checkpoint" => read(method, params, |_: CheckpointRequest| Ask::Checkpoint),
            "ledger.consistency" => read(method, params, Ask::Consistency),
            "ledger.cosign" => read(method, params, Ask::Cosign),
            other => panic!("a feeder calls {other}"),
        }
    }

    async fn handle(&self, request: Ask, _call: Call, out: &mut Vec<u8>) -> Result<(), ApiError> {
        let mut book = self.book();
        match request {
            Ask::Checkpoint => {
                book.asked += 1;
                if book.grows > 0 {
                    book.grows -= 1;
                    let mut tree = book.tree.clone();
                    tree.push(u8::try_from(tree.size() % 256).unwrap());
                    book.publish(tree);
                }
                let info = CheckpointInfo {
                    checkpoint: book.signed.to_text(),
                    key: book.tree.key.verifier().to_string(),
                    size: book.signed.checkpoint.size,
                    root: book.signed.checkpoint.root,
                    witnessed: book.witnessed(),
                };
                rpc::reply(CheckpointRequest::METHOD, &info, out)
            }
            Ask::Consistency(ConsistencyRequest { old, new }) => {
                let proof = book.tree.proof(old, new);
                rpc::reply(ConsistencyRequest::METHOD, &Consistency { proof }, out)
            }
            Ask::Cosign(CosignRequest { size, cosignatures }) => {
                let refused =
                    |why| ApiError::new(Code::Conflict, "cosign", "checkpoint", why, "fetch the newest");
                if size != book.signed.checkpoint.size {
                    return Err(refused("it is not the newest checkpoint".to_owned()));
                }
                let mut signed = book.signed.clone();
                signed.add(&cosignatures).map_err(|error| refused(error.to_string()))?;
                let known = book.witnesses.iter().filter(|key| signed.cosigned_by(key).is_ok()).count();
                assert_eq!(
                    known,
                    signed.note.signatures.len() - 1,
                    "the ledger gets right cosignatures only"
                );
                book.signed = signed;
                book.taken += 1;
                rpc::reply(CosignRequest::METHOD, &book.witnessed(), out)
            }
        }
    }
}

impl Ledger {
    /// A ledger at `<dir>/ledger.sock`.
    pub(super) fn start(dir: &Dir, tree: Tree, witnesses: Vec<Verifier>) -> (Self, PathBuf, Trigger) {
        let signed = Signed::parse_unverified(&tree.checkpoint(tree.size())).unwrap();
        let book = Book { tree, witnesses, signed, taken: 0, asked: 0, grows: 0 };
        let ledger = Self(Arc::new(Mutex::new(book)));
        let path = dir.0.join("ledger.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let (trigger, stop) = shutdown();
        let identity = Identity::PeerCredentials { operator: nix::unistd::getuid().as_raw() };
        tokio::spawn(serve(listener, ledger.clone(), identity, Limits::default(), stop));
        (ledger, path, trigger)
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap()
    }
}
