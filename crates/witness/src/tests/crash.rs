//! kill -9 between storing and answering, and at any other moment.

use super::{Dir, Lines, Tree, ask, open};
use crate::client::Connection;
use crate::{Limits, Listener, Url, serve};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use octant_wire::shutdown;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// Where the child has its socket and state.
const DIR: &str = "OCTANT_WITNESS_CHILD_DIR";
/// Set: the child kills itself when a state is stored and its cosignature has not left.
const KILL: &str = "OCTANT_WITNESS_CHILD_KILL";

/// Not a test of its own: the process that the tests below start.
#[tokio::test]
async fn child_that_is_a_witness() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let dir = Path::new(&dir);
    let mut witness = open(&dir.join("state"), &Lines::default());
    if std::env::var_os(KILL).is_some() {
        witness.stored = Some(|| {
            kill(Pid::this(), Signal::SIGKILL).unwrap();
            std::thread::sleep(Duration::from_secs(60));
        });
    }
    let listener = Listener::bind(&address(dir).parse().unwrap()).await.unwrap();
    let (_trigger, stop) = shutdown();
    serve(vec![listener], Arc::new(witness), Limits::default(), stop).await.unwrap();
}

fn address(dir: &Path) -> String {
    format!("unix:{}", dir.join("w.sock").display())
}

fn start(dir: &Dir, kill: bool) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "tests::crash::child_that_is_a_witness", "--nocapture"]).env(DIR, &dir.0);
    if kill {
        command.env(KILL, "1");
    }
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// A connection, once the child listens.
async fn connected<'a>(url: &'a Url, child: &mut Child) -> Connection<'a> {
    loop {
        match Connection::open(url, Duration::from_secs(20)).await {
            Ok(connection) => return connection,
            Err(error) => assert!(child.try_wait().unwrap().is_none(), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn killed_between_storing_and_answering_it_goes_on_from_what_it_stored() {
    let dir = Dir::new();
    let url: Url = address(&dir.0).parse().unwrap();
    let (tree, other) = (Tree::new(&[1; 9]), Tree::new(&[2; 9]));
    let mut child = start(&dir, true);
    let answer = connected(&url, &mut child).await.add_checkpoint(tree.request(0, 6)).await;
    assert!(answer.is_err(), "no cosignature has left: {answer:?}");
    child.wait().unwrap();

    let witness = open(&dir.0.join("state"), &Lines::default());
    assert_eq!(ask(&witness, &other.request(0, 6)), (409, "6\n".into()), "no other tree in its place");
    assert_eq!(ask(&witness, &tree.request(0, 4)), (409, "6\n".into()));
    assert_eq!(ask(&witness, &tree.request(6, 6)).0, 200, "what the feeder does next");
}

#[tokio::test]
async fn killed_at_any_moment_it_never_forgets_a_cosignature_that_left() {
    let dir = Dir::new();
    let url: Url = address(&dir.0).parse().unwrap();
    let tree = Tree::new(&[1; 50]);
    let mut cosigned = 0;
    for round in 0..12_u64 {
        let mut child = start(&dir, false);
        let mut witness = connected(&url, &mut child).await;
        let answer = witness.add_checkpoint(tree.request(cosigned, cosigned + 1)).await.unwrap();
        assert_eq!(answer.status, 200);
        cosigned += 1;
        // The next one is cut off somewhere: before it is read, while it is stored, after it was answered.
        let request = tree.request(cosigned, cosigned + 1);
        let killer = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_micros(700 * round)).await;
            child.kill().unwrap();
            child.wait().unwrap();
        });
        if let Ok(answer) = witness.add_checkpoint(request).await {
            assert_eq!(answer.status, 200);
            cosigned += 1;
        }
        killer.await.unwrap();
        let witness = open(&dir.0.join("state"), &Lines::default());
        let (status, body) = ask(&witness, &tree.request(cosigned, cosigned));
        let stored = if status == 200 { cosigned } else { body.trim().parse().unwrap() };
        assert!(stored == cosigned || stored == cosigned + 1, "{stored} after {cosigned} was cosigned");
        cosigned = stored;
    }
}
