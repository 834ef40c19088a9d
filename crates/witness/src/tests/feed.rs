//! A feeder between a ledger and witnesses that are right, wrong, gone or hostile.

use super::ledger::Ledger;
use super::{Dir, Lines, Running, Tree, log_key, witness_key};
use crate::{
    ClientError, Config, Feeder, Level, Limits, Listener, Overview, Plan, Target, TargetError, Trouble,
    Witness, serve,
};
use octant_tlog::note::{NoteKey, Verifier};
use octant_wire::{Trigger, shutdown};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const ANY_PORT: &str = "127.0.0.1:0";
const SOON: Duration = Duration::from_millis(5);

fn key(name: &str, seed: u8) -> NoteKey {
    NoteKey::cosigner(name, [seed; 32]).unwrap()
}

fn target(key: &Verifier, url: &str) -> Target {
    format!("{key}={url}").parse().unwrap()
}

fn feeder(ledger: &Path, targets: Vec<Target>, lines: &Lines) -> Arc<Feeder> {
    feeder_within(ledger, targets, lines, Duration::from_secs(20))
}

fn feeder_within(ledger: &Path, targets: Vec<Target>, lines: &Lines, patience: Duration) -> Arc<Feeder> {
    Feeder::new(Plan { ledger: ledger.to_owned(), targets, every: SOON, patience, say: lines.say() }, |_| {})
}

/// A witness of this key and name at some port.
async fn witness(dir: &Dir, key: NoteKey) -> (Target, Trigger) {
    let listener = Listener::bind(&ANY_PORT.parse().unwrap()).await.unwrap();
    let target = target(&key.verifier(), &format!("http://{}", listener.tcp_address().unwrap()));
    let dir = dir.0.join(key.name());
    let config = Config { key, logs: vec![log_key().verifier()], dir, say: Lines::default().say() };
    let (trigger, stop) = shutdown();
    tokio::spawn(serve(vec![listener], Arc::new(Witness::open(config).unwrap()), Limits::default(), stop));
    (target, trigger)
}

/// One target, once.
async fn once(ledger: &Path, target: &Target) -> Result<u64, Trouble> {
    once_within(ledger, target, Duration::from_secs(20)).await
}

async fn once_within(ledger: &Path, target: &Target, patience: Duration) -> Result<u64, Trouble> {
    let feeder = feeder_within(ledger, vec![target.clone()], &Lines::default(), patience);
    let mut results = feeder.once().await;
    results.pop().unwrap().map(|cosigned| cosigned.size)
}

#[tokio::test]
async fn every_witness_gets_every_checkpoint_once() {
    let dir = Dir::new();
    let mut targets = Vec::new();
    let mut ends = Vec::new();
    for (name, seed) in [("w1", 2), ("w2", 3), ("w3", 4)] {
        let (target, end) = witness(&dir, key(name, seed)).await;
        targets.push(target);
        ends.push(end);
    }
    let keys = targets.iter().map(|target| target.key.clone()).collect();
    let (ledger, path, _end) = Ledger::start(&dir, Tree::new(&[1; 7]), keys);
    for size in [7, 7, 200] {
        if size > 7 {
            ledger.book().publish(Tree::new(&[1; 200]));
        }
        let results = feeder(&path, targets.clone(), &Lines::default()).once().await;
        let sizes: Vec<u64> = results.into_iter().map(|result| result.unwrap().size).collect();
        assert_eq!(sizes, [size; 3]);
        let taken = if size == 7 { 3 } else { 6 };
        let book = ledger.book();
        assert_eq!((book.taken, book.signed.note.signatures.len()), (taken, 4));
    }
}

#[tokio::test]
async fn two_feeders_and_a_growing_ledger_raise_no_alarm() {
    let dir = Dir::new();
    let (target, _end) = witness(&dir, witness_key()).await;
    let (ledger, path, _ledger) = Ledger::start(&dir, Tree::new(&[1; 3]), vec![target.key.clone()]);
    ledger.book().grows = 25;
    let (lines, (trigger, stop)) = (Lines::default(), shutdown());
    let feeders = [(); 2].map(|()| {
        let feeder = feeder(&path, vec![target.clone()], &lines);
        tokio::spawn(feeder.run(stop.clone()))
    });
    loop {
        let (left, signatures, size) = {
            let book = ledger.book();
            (book.grows, book.signed.note.signatures.len(), book.signed.checkpoint.size)
        };
        if left == 0 && signatures == 2 {
            assert_eq!(size, 28);
            break;
        }
        tokio::time::sleep(SOON).await;
    }
    trigger.pull();
    for feeder in feeders {
        feeder.await.unwrap();
    }
    assert_eq!(lines.of(Level::Error), Vec::<String>::new());
}

#[tokio::test]
async fn a_log_that_is_not_what_it_was_is_reported_as_that() {
    let dir = Dir::new();
    let (target, _end) = witness(&dir, witness_key()).await;
    let (ledger, path, _ledger) = Ledger::start(&dir, Tree::new(&[1; 9]), vec![target.key.clone()]);
    assert_eq!(once(&path, &target).await.unwrap(), 9);
    // The tail is cut off, or an old copy was restored.
    ledger.book().publish(Tree::new(&[1; 6]));
    let trouble = once(&path, &target).await.unwrap_err();
    assert!(matches!(trouble, Trouble::Rollback { theirs: 9, ours: 6 }), "{trouble}");
    // Rewritten with the log's own key, up to the same size and beyond.
    ledger.book().publish(Tree::new(&[2; 9]));
    let trouble = once(&path, &target).await.unwrap_err();
    assert!(matches!(trouble, Trouble::Fork { size: 9 }) && trouble.is_alarm(), "{trouble}");
    ledger.book().publish(Tree::new(&[2; 12]));
    let trouble = once(&path, &target).await.unwrap_err();
    assert!(matches!(trouble, Trouble::NotContinued { from: 9, to: 12, .. }), "{trouble}");
    assert!(trouble.is_alarm() && trouble.to_string().starts_with("FORK"), "{trouble}");
    // The right one again.
    ledger.book().publish(Tree::new(&[1; 12]));
    assert_eq!(once(&path, &target).await.unwrap(), 12);
    assert_eq!(ledger.book().taken, 2);
}

/// After a loss of power the ledger can show a checkpoint from before the one that was cosigned, until it has signed
/// what it has anew.
#[tokio::test]
async fn a_ledger_that_is_behind_for_a_moment_is_no_rollback() {
    let dir = Dir::new();
    let (target, _end) = witness(&dir, witness_key()).await;
    let whole = Tree::new(&[1, 1, 1, 1, 1, 1, 6, 7, 8, 9]);
    let (ledger, path, _ledger) = Ledger::start(&dir, whole, vec![target.key.clone()]);
    assert_eq!(once(&path, &target).await.unwrap(), 10);
    ledger.book().publish(Tree::new(&[1; 6]));
    // One entry each time it is asked: after the refusal it is still behind, twice.
    ledger.book().grows = 4;
    assert_eq!(once(&path, &target).await.unwrap(), 10);
    assert_eq!(ledger.book().taken, 2);
}

/// A number is no evidence: what a witness alone says is its word, and loud nevertheless.
#[tokio::test]
async fn a_witness_that_lies_is_quoted() {
    let dir = Dir::new();
    let (_ledger, path, _end) = Ledger::start(&dir, Tree::new(&[1; 9]), vec![witness_key().verifier()]);
    for (size, starts) in [("9", "FORK: the witness says"), ("10", "ROLLBACK: the witness says")] {
        let (target, _) = hostile(http("409 Conflict", &format!("{size}\n")), false).await;
        let trouble = once(&path, &target).await.unwrap_err();
        assert!(trouble.is_alarm() && trouble.to_string().starts_with(starts), "{trouble}");
        assert!(
            trouble.to_string().contains("If that is true") && trouble.to_string().contains("ask for it")
        );
    }
}

#[tokio::test]
async fn a_cosignature_that_is_not_the_witnesss_own_never_reaches_the_ledger() {
    let dir = Dir::new();
    let (right, _end) = witness(&dir, witness_key()).await;
    let (ledger, path, _ledger) = Ledger::start(&dir, Tree::new(&[1; 9]), vec![right.key.clone()]);
    // Another witness answers at this address, or the key in the configuration is another's.
    let other = Target { key: key("w1.example", 9).verifier(), url: right.url.clone() };
    let trouble = once(&path, &other).await.unwrap_err();
    assert!(matches!(trouble, Trouble::Cosignature(_)), "{trouble}");
    assert_eq!(ledger.book().taken, 0);
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let dir = Dir::new();
    let (target, _end) = witness(&dir, witness_key()).await;
    let mut tree = Tree::new(&[1; 9]);
    tree.key = NoteKey::from_seed("octant/ffffffffffffffff", [1; 32]).unwrap().into();
    let (ledger, path, _ledger) = Ledger::start(&dir, tree.clone(), vec![target.key.clone()]);
    let trouble = once(&path, &target).await.unwrap_err();
    assert!(trouble.to_string().contains("octant ledger checkpoint --key"), "{trouble}");
    tree.key = NoteKey::from_seed(super::ORIGIN, [9; 32]).unwrap().into();
    ledger.book().publish(tree);
    let trouble = once(&path, &target).await.unwrap_err();
    assert!(matches!(trouble, Trouble::Refused { status: 403, .. }) && !trouble.is_alarm(), "{trouble}");
}

/// A server that answers every request with the same bytes, or for ever with them.
async fn hostile(answer: Vec<u8>, for_ever: bool) -> (Target, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let target = target(&witness_key().verifier(), &format!("http://{}", listener.local_addr().unwrap()));
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (answer, counted) = (answer.clone(), Arc::clone(&counted));
            tokio::spawn(async move {
                let mut buffer = vec![0; 1 << 16];
                while stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {
                    counted.fetch_add(1, Ordering::Relaxed);
                    while stream.write_all(&answer).await.is_ok() && for_ever {}
                }
            });
        }
    });
    (target, requests)
}

fn http(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[tokio::test]
async fn a_hostile_witness_costs_little() {
    let dir = Dir::new();
    let (ledger, path, _ledger) = Ledger::start(&dir, Tree::new(&[1; 9]), vec![witness_key().verifier()]);
    let endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000)).into_bytes();
    type Expected = fn(&Trouble) -> bool;
    let too_long: Expected = |trouble| matches!(trouble, Trouble::Witness(ClientError::TooLong { .. }));
    let failed: Expected = |trouble| matches!(trouble, Trouble::Witness(_));
    let odd: Expected = |trouble| matches!(trouble, Trouble::Odd(_) | Trouble::Cosignature(_));
    /// So many of the first rows may end with the end of patience.
    const LATE: usize = 4;
    let rows: [(Vec<u8>, bool, Expected); 10] = [
        (b"HTTP/1.1 200 OK\r\nX: ".to_vec(), false, failed),
        (b"x".repeat(4096), true, failed),
        (b"SSH-2.0-hello\r\n".to_vec(), false, failed),
        (Vec::new(), false, failed),
        (http("200 OK", &"x".repeat(1 << 20)), false, too_long),
        ([endless, chunk.repeat(8)].concat(), false, too_long),
        (http("200 OK", "\u{2014} w1.example AAAA\n"), false, odd),
        (http("200 OK", ""), false, odd),
        (http("409 Conflict", "no size"), false, odd),
        // Always the same size: at most some tries, and no alarm, since it is not that of the checkpoint.
        (http("409 Conflict", "5\n"), false, odd),
    ];
    for (number, (answer, for_ever, expected)) in rows.into_iter().enumerate() {
        let (target, requests) = hostile(answer, for_ever).await;
        let patience = Duration::from_millis(if number < LATE { 300 } else { 20_000 });
        let trouble = once_within(&path, &target, patience).await.unwrap_err();
        assert!(expected(&trouble) && !trouble.is_alarm(), "{number}: {trouble:?}");
        assert!(requests.load(Ordering::Relaxed) <= 4, "{number}: {requests:?}");
    }
    assert_eq!(ledger.book().taken, 0);
    // A redirect is not followed, and control characters do not reach the terminal.
    let (target, _) = hostile(
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 4\r\n\r\na\x1bb\n".to_vec(),
        false,
    )
    .await;
    let trouble = once(&path, &target).await.unwrap_err();
    assert!(matches!(&trouble, Trouble::Refused { status: 302, words } if words == "a b"), "{trouble:?}");
}

#[tokio::test]
async fn a_line_is_said_when_something_changes_and_not_at_every_try() {
    let dir = Dir::new();
    let url = format!("unix:{}", dir.0.join("w.sock").display());
    let target = target(&witness_key().verifier(), &url);
    let (ledger, path, _ledger) = Ledger::start(&dir, Tree::new(&[1; 9]), vec![target.key.clone()]);
    let (lines, (trigger, stop)) = (Lines::default(), shutdown());
    let told: Arc<Mutex<Vec<(usize, bool)>>> = Arc::default();
    let kept = Arc::clone(&told);
    let plan = Plan {
        ledger: path,
        targets: vec![target],
        every: Duration::from_millis(1),
        patience: Duration::from_secs(20),
        say: lines.say(),
    };
    let tell = move |now: &Overview| {
        assert_eq!(now.witnesses, 1);
        kept.lock().unwrap().push((now.cosigning, now.alarm.is_some()));
    };
    let feeder = Feeder::new(plan, tell);
    let feeding = tokio::spawn(feeder.run(stop));
    let until = async |what: &dyn Fn() -> bool| {
        while !what() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    until(&|| ledger.book().asked >= 5).await;
    assert_eq!(lines.all().len(), 1, "{:?}", lines.all());
    assert!(lines.of(Level::Warning)[0].starts_with("w1.example: cannot connect to unix:"));
    let running = Running::start(&dir.0.join("state"), &url, Limits::default()).await;
    until(&|| lines.all().len() == 2).await;
    assert_eq!(lines.of(Level::Info), ["w1.example: cosigns, up to 9 entries"]);
    ledger.book().publish(Tree::new(&[1; 30]));
    until(&|| ledger.book().taken == 2).await;
    ledger.book().publish(Tree::new(&[1; 20]));
    until(&|| lines.all().len() == 3).await;
    let asked = ledger.book().asked;
    until(&|| ledger.book().asked >= asked + 6).await;
    let errors = lines.of(Level::Error);
    assert!(errors.len() == 1 && errors[0].starts_with("w1.example: ROLLBACK: "), "{errors:?}");
    assert_eq!(lines.all().len(), 3);
    assert_eq!(
        *told.lock().unwrap(),
        [(0, false), (1, false), (0, true)],
        "the ledger answers, it cosigns, alarm"
    );
    trigger.pull();
    feeding.await.unwrap();
    running.stop().await;
}

#[test]
fn targets_are_a_key_and_an_address() {
    let key = witness_key().verifier();
    let parsed: Target = format!("{key}=http://127.0.0.1:80/w").parse().unwrap();
    assert_eq!((parsed.key, parsed.url.to_string().as_str()), (key.clone(), "http://127.0.0.1:80/w"));
    let wrong = |text: String| text.parse::<Target>().unwrap_err();
    assert!(matches!(wrong(key.to_string()), TargetError::Form(_)));
    assert!(matches!(wrong(format!("x{key}=unix:/w")), TargetError::Key(_)));
    assert!(matches!(wrong(format!("{}=unix:/w", log_key().verifier())), TargetError::Algorithm { .. }));
    assert!(matches!(wrong(format!("{key}=https://w.example")), TargetError::Url(_)));
    assert!(matches!(wrong(format!("{key}=http://w.example")), TargetError::Url(_)));
}
