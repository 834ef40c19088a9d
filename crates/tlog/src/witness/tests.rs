//! Requests as they are read, and a witness under random honest and dishonest logs.

use super::*;
use crate::checkpoint::{Checkpoint, sign};
use crate::merkle::{Frontier, Nodes, consistency, leaf_hash};
use crate::note::{Note, NoteKey};
use proptest::prelude::{any, prop};
use proptest::{prop_assert, prop_assert_eq, proptest};
use std::collections::HashMap;
use std::convert::Infallible;

const ORIGIN: &str = "octant/0123456789abcdef";

fn key(name: &str, seed: u8) -> NoteKey {
    NoteKey::from_seed(name, [seed; 32]).unwrap()
}

/// A log's tree: all that is needed to sign any of its sizes and to prove between them.
#[derive(Default, Clone)]
struct Tree {
    frontier: Frontier,
    roots: Vec<Sha256>,
    nodes: HashMap<(u8, u64), Sha256>,
}

impl Nodes for Tree {
    type Error = Infallible;
    fn node(&self, height: u8, index: u64) -> Result<Sha256, Infallible> {
        Ok(self.nodes[&(height, index)])
    }
}

impl Tree {
    fn new(leaves: &[u8]) -> Self {
        let mut tree = Self { roots: vec![EMPTY_ROOT], ..Self::default() };
        for leaf in leaves {
            let nodes = &mut tree.nodes;
            tree.frontier.push(leaf_hash(&[*leaf]), |height, index, hash| {
                nodes.insert((height, index), hash);
            });
            tree.roots.push(tree.frontier.root());
        }
        tree
    }

    fn root(&self, size: u64) -> Sha256 {
        self.roots[usize::try_from(size).unwrap()]
    }

    fn checkpoint(&self, key: &NoteKey, size: u64) -> String {
        let origin = key.name().to_owned();
        sign(key, &Checkpoint { origin, size, root: self.root(size), extensions: Vec::new() })
    }

    fn proof(&self, old: u64, new: u64) -> Vec<Sha256> {
        if old == 0 || old >= new { Vec::new() } else { consistency(self, old, new).unwrap() }
    }

    /// What [`open`] makes of the request that an honest log makes. Without its signature, which takes longer than all
    /// the rest of a property test.
    fn submission(&self, old: u64, new: u64, proof: Vec<Sha256>) -> Submission {
        let checkpoint =
            Checkpoint { origin: ORIGIN.to_owned(), size: new, root: self.root(new), extensions: Vec::new() };
        let note = Note { text: checkpoint.to_text(), signatures: Vec::new() };
        Submission { old, proof, signed: Signed { checkpoint, note } }
    }

    /// The request that an honest log makes.
    fn request(&self, key: &NoteKey, old: u64, new: u64) -> Vec<u8> {
        let checkpoint = self.checkpoint(key, new);
        Request { old, proof: self.proof(old, new), checkpoint: &checkpoint }.to_text().into_bytes()
    }
}

/// What a witness does, with its state.
fn ask(seen: &mut Seen, logs: &[Verifier], body: &[u8]) -> Result<u64, Refusal> {
    let new = open(body, logs)?.decide(seen)?;
    *seen = new;
    Ok(new.size)
}

#[test]
fn the_example_of_the_specification_is_read_and_written_the_same() {
    let body = "old 20852014\n\
        PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n\
        jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n\
        5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n\
        /6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n\n\
        example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
        \u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n";
    let request = Request::parse(body.as_bytes()).unwrap();
    assert_eq!((request.old, request.proof.len()), (20_852_014, 4));
    assert!(request.checkpoint.starts_with("example.com/behind-the-sofa\n20852163\n"));
    assert_eq!(request.to_text(), body);
    // Nobody has given this witness that log.
    let refusal = open(body.as_bytes(), &[key(ORIGIN, 1).verifier()]).unwrap_err();
    assert_eq!(refusal, Refusal::UnknownOrigin { origin: "example.com/behind-the-sofa".into() });
    assert_eq!(refusal.status(), 404);
}

#[test]
fn a_request_that_is_not_of_the_form_says_which_line() {
    let hash = hash_to_base64(&EMPTY_ROOT);
    let many = |count| format!("old 1\n{}\n", format!("{hash}\n").repeat(count));
    assert_eq!(Request::parse(many(63).as_bytes()).unwrap().proof.len(), 63);
    let rows = [
        (String::new(), RequestError::OldSize),
        ("old 1".into(), RequestError::OldSize),
        ("old\n\n".into(), RequestError::OldSize),
        ("old 01\n\n".into(), RequestError::OldSize),
        ("old +1\n\n".into(), RequestError::OldSize),
        ("old 1 \n\n".into(), RequestError::OldSize),
        ("old 1\r\n\n".into(), RequestError::OldSize),
        ("Old 1\n\n".into(), RequestError::OldSize),
        ("old 18446744073709551616\n\n".into(), RequestError::OldSize),
        ("old 1\n".into(), RequestError::Cut),
        (format!("old 1\n{hash}\n"), RequestError::Cut),
        (format!("old 1\n{hash}"), RequestError::Cut),
        (format!("old 1\n{hash}\n{}\n\n", &hash[1..]), RequestError::Hash(3)),
        // The same 32 bytes in a second form.
        (format!("old 1\n{}V=\n\n", &hash[..42]), RequestError::Hash(2)),
        (format!("old 1\n{hash} \n\n"), RequestError::Hash(2)),
        (many(64), RequestError::TooManyHashes),
    ];
    for (body, why) in rows {
        assert_eq!(Request::parse(body.as_bytes()), Err(why.clone()), "{body:?}");
        assert_eq!(Refusal::from(why).status(), 400);
    }
    assert_eq!(Request::parse(b"old 1\n\xff\n"), Err(RequestError::NotText(6)));
    let long = vec![b'x'; REQUEST_MAX + 1];
    assert_eq!(Request::parse(&long), Err(RequestError::TooLong(REQUEST_MAX + 1)));
    assert_eq!(open(&long, &[]).unwrap_err().status(), 413);
    assert_eq!(open(b"old 0\n\nnot a note", &[]).unwrap_err().status(), 400);
}

#[test]
fn every_refusal_has_its_status() {
    let (log, stranger) = (key(ORIGIN, 1), key(ORIGIN, 2));
    let logs = [log.verifier()];
    let tree = Tree::new(b"the quick brown fox");
    let mut seen = Seen::default();
    assert_eq!(ask(&mut seen, &logs, &tree.request(&log, 0, 7)), Ok(7));

    let refusal = |body: &[u8]| {
        let refusal = ask(&mut seen.clone(), &logs, body).unwrap_err();
        (refusal.status(), format!("{refusal}\n"), refusal.content_type())
    };
    assert_eq!(refusal(&tree.request(&key("other", 1), 7, 9)).0, 404);
    assert_eq!(refusal(&tree.request(&stranger, 7, 9)).0, 403);
    assert_eq!(refusal(&tree.request(&log, 10, 9)).0, 400);
    // The size that was cosigned last, in the one form that clients read.
    for old in [0, 3, 9] {
        let (status, body, content_type) = refusal(&tree.request(&log, old, 9));
        assert_eq!((status, content_type), (409, "text/x.tlog.size"));
        assert_eq!((body.as_str(), conflict_size(body.as_bytes())), ("7\n", Some(7)));
    }
    // A rollback, whatever it claims to start from.
    assert_eq!(refusal(&tree.request(&log, 3, 5)).0, 409);
    assert_eq!(refusal(&tree.request(&log, 7, 5)).0, 400);
    // A fork of the same size, whatever it claims to start from.
    let fork = Tree::new(b"The quick brown fox");
    for old in [7, 0] {
        assert_eq!(refusal(&fork.request(&log, old, 7)), (409, "7\n".into(), SIZE_TYPE));
        let refused = ask(&mut seen.clone(), &logs, &fork.request(&log, old, 7)).unwrap_err();
        assert!(matches!(refused, Refusal::Fork { other, .. } if other == fork.root(7)), "{refused:?}");
    }
    // A larger fork: no proof leads from this tree to that one.
    assert_eq!(refusal(&fork.request(&log, 7, 9)).0, 422);
    // A proof where none belongs.
    let checkpoint = tree.checkpoint(&log, 7);
    let body = Request { old: 7, proof: vec![EMPTY_ROOT], checkpoint: &checkpoint }.to_text();
    assert_eq!(refusal(body.as_bytes()).0, 422);
    assert_eq!(ask(&mut seen, &logs, &tree.request(&log, 7, 7)), Ok(7), "the same again is cosigned again");
}

#[test]
fn any_of_a_logs_keys_will_do_and_other_signatures_are_ignored() {
    let (first, second) = (key(ORIGIN, 1), key(ORIGIN, 2));
    let tree = Tree::new(b"abc");
    let logs = [first.verifier(), second.verifier()];
    for log in [&first, &second] {
        assert_eq!(ask(&mut Seen::default(), &logs, &tree.request(log, 0, 3)), Ok(3));
    }
    let mut body = String::from_utf8(tree.request(&second, 0, 3)).unwrap();
    body.push_str("\u{2014} somebody Az3grlgtzPICa5OS8npVmf1Myq8=\n");
    assert_eq!(ask(&mut Seen::default(), &logs, body.as_bytes()), Ok(3));
    let refused = ask(&mut Seen::default(), &logs[..1], body.as_bytes()).unwrap_err();
    assert!(matches!(refused, Refusal::Unsigned { .. }), "{refused:?}");
}

#[test]
fn only_a_size_is_read_as_one() {
    for (body, size) in
        [("0\n", Some(0)), ("12\n", Some(12)), ("12", None), ("012\n", None), ("1\n2\n", None)]
    {
        assert_eq!(conflict_size(body.as_bytes()), size, "{body:?}");
    }
    assert_eq!(conflict_size(b"\xff\n"), None);
}

proptest! {
    /// Two trees that part somewhere, one witness, any order of requests, honest or not: what it has cosigned is
    /// always one growing tree, and an honest request from the right size is never refused.
    #[test]
    fn what_was_cosigned_is_one_growing_tree(
        leaves in prop::collection::vec(any::<u8>(), 2..40),
        part in any::<prop::sample::Index>(),
        requests in prop::collection::vec((any::<bool>(), any::<u64>(), any::<u64>(), any::<bool>()), 1..40),
    ) {
        let mut other = leaves.clone();
        other[part.index(leaves.len())] ^= 1;
        let trees = [Tree::new(&leaves), Tree::new(&other)];
        let max = u64::try_from(leaves.len()).unwrap();
        let mut seen = Seen::default();
        let mut cosigned: Vec<Seen> = Vec::new();
        for (fork, old, new, honest) in requests {
            let tree = &trees[usize::from(fork)];
            let new = new % max + 1;
            let old = if honest { seen.size } else { old % (max + 2) };
            let before = seen;
            let answer = tree.submission(old, new, tree.proof(old, new)).decide(&seen);
            seen = *answer.as_ref().unwrap_or(&seen);
            let continues = old == before.size && old <= new && tree.root(old) == before.root;
            prop_assert_eq!(answer.is_ok(), continues, "{:?}", answer);
            prop_assert!(seen.size >= before.size);
            cosigned.push(seen);
        }
        // One of the two trees holds every one of them.
        let holds = |tree: &Tree| cosigned.iter().all(|seen| tree.root(seen.size) == seen.root);
        prop_assert!(trees.iter().any(holds));
    }

    /// Any change of a hash of the proof, or of their number, is refused.
    #[test]
    fn a_changed_proof_is_refused(
        old in 1..60_u64, more in 1..60_u64, bit in 0..256_usize, place in any::<prop::sample::Index>(), cut in any::<bool>(),
    ) {
        let leaves: Vec<u8> = (0..120).collect();
        let tree = Tree::new(&leaves);
        let new = old + more;
        let mut proof = tree.proof(old, new);
        if cut || proof.is_empty() {
            proof.pop().map_or_else(|| proof.push(EMPTY_ROOT), drop);
        } else {
            let at = place.index(proof.len());
            proof[at].0[bit / 8] ^= 1 << (bit % 8);
        }
        let seen = Seen { size: old, root: tree.root(old) };
        let refused = tree.submission(old, new, proof).decide(&seen).unwrap_err();
        prop_assert!(matches!(refused, Refusal::Inconsistent { .. }), "{:?}", refused);
    }

    /// Whatever is read is written the same, and nothing makes it panic; neither do changes of a right request.
    #[test]
    fn arbitrary_and_changed_requests_return(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        at in any::<prop::sample::Index>(),
        to in any::<u8>(),
    ) {
        fuzz_request(&bytes);
        let tree = Tree::new(b"abcdefgh");
        let checkpoint = format!(
            "{}\n\u{2014} {ORIGIN} Az3grlgtzPICa5OS8npVmf1Myq8=\n",
            tree.submission(3, 8, Vec::new()).signed.note.text
        );
        let mut body = Request { old: 3, proof: tree.proof(3, 8), checkpoint: &checkpoint }.to_text().into_bytes();
        let at = at.index(body.len());
        body[at] = to;
        fuzz_request(&body);
    }
}
