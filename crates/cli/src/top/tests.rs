//! Golden views, keys, and the whole on a terminal against sockets that play PID 1 and the services.

use super::snapshot::{Agent, Approval, Snapshot, Unit, Used};
use super::view::{Drawn, lines};
use super::*;
use crate::tests::services::{aid, play, result};
use crate::tests::{Dir, answers, golden, play_init, unit};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};
use octant_api::operator::{Health, Phase, UnitState};
use serde_json::json;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

fn used(cpu_permille: u64, memory: u64) -> Used {
    Used { cpu_permille: Some(cpu_permille), memory: Some(memory) }
}

fn named(number: u8) -> Aid {
    Aid::new(1_773_495_425_123, [number; 10])
}

fn snapshot(agents: u8) -> Snapshot {
    let unit = |name: &str, health: &str, text: &str| Unit {
        name: name.into(),
        state: "ready".into(),
        health: health.into(),
        restarts: 0,
        text: text.into(),
        used: used(7, 12 << 20),
        memory_max: (name == "egress").then_some(512 << 20),
    };
    let agent = |number: u8| Agent {
        aid: named(number),
        name: format!("report-{number}"),
        state: if number == 1 { "suspended" } else { "running" }.into(),
        used: if number == 2 { Used::default() } else { used(1234, 48 << 20) },
        egress: (number != 2).then_some((3, 120_000, 4_500_000)),
        spent_microusd: (number == 0).then_some(1_250_000),
    };
    Snapshot {
        now_ms: 1_773_495_425_123,
        phase: "running".into(),
        units: vec![
            unit("log", "ok", ""),
            unit("ledger", "ok", "1742 entries"),
            unit("vault", "unhealthy", "page 3 does not fit\u{1b}[2J"),
            unit("egress", "ok", "3 agents, 6 connections"),
            unit("spawner", "ok", "builds workstations"),
            unit("agents", "ok", "3 agents"),
        ],
        agents: (0..agents).map(agent).collect(),
        approvals: vec![Approval {
            id: "00112233".into(),
            action: "spend:5".into(),
            subject: "shopper".into(),
        }],
        entries: (1730..1742)
            .map(|seq| format!("{seq:>6} 13:37:05.123 agents         lifecycle agent-..k3x9qz running"))
            .collect(),
        away: vec!["egress: silence for 1500 ms".into()],
        memory: Some((3 << 30, 8 << 30)),
    }
}

fn drawn(lines: &[Drawn]) -> String {
    lines
        .iter()
        .map(|line| format!("{}{}\n", if line.marked { '#' } else { ' ' }, line.text.trim_end()))
        .collect()
}

#[test]
fn the_view_is_the_golden_one_and_fits_the_terminal() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/top");
    for (name, agents, columns, rows) in
        [("80x24", 3, 80, 24), ("120x40", 3, 120, 40), ("80x24-many", 40, 80, 24), ("80x24-none", 0, 80, 24)]
    {
        let view = View { chosen: usize::from(agents) / 2, ..View::default() };
        let shown = lines(&snapshot(agents), &view, columns, rows);
        assert_eq!(shown.len(), rows, "{name}");
        assert!(shown.iter().all(|line| line.text.chars().count() <= columns), "{name}");
        assert!(shown.iter().all(|line| !line.text.contains('\u{1b}')), "{name}");
        let chosen = format!("report-{}", agents / 2);
        let seen = shown.iter().any(|line| line.marked && line.text.starts_with(&chosen));
        assert_eq!(seen, agents > 0, "the chosen agent is always in sight: {name}");
        golden(&dir.join(format!("{name}.txt")), &drawn(&shown));
    }
}

#[test]
fn no_size_is_too_small_and_nothing_known_is_shown_too() {
    for (columns, rows) in [(1, 1), (10, 3), (40, 7), (80, 10), (300, 100)] {
        for snapshot in [Snapshot::default(), snapshot(0), snapshot(40)] {
            let view = View { chosen: snapshot.agents.len().saturating_sub(1), ..View::default() };
            let shown = lines(&snapshot, &view, columns, rows);
            assert_eq!(shown.len(), rows);
            assert!(shown.iter().all(|line| line.text.chars().count() <= columns.max(2)), "{columns}x{rows}");
        }
    }
}

#[test]
fn an_agent_is_killed_only_after_a_yes() {
    let (snapshot, mut view) = (snapshot(3), View::default());
    let mut hit = |key| press(&mut view, &snapshot, key);
    assert_eq!(hit(Key::Down), Pressed::Nothing);
    assert_eq!(hit(Key::Letter('k')), Pressed::Nothing);
    assert_eq!(hit(Key::Letter('k')), Pressed::Nothing, "no yes");
    assert_eq!(hit(Key::Letter('y')), Pressed::Nothing, "it is not asked any more");
    assert_eq!(hit(Key::Letter('k')), Pressed::Nothing);
    assert_eq!(hit(Key::Letter('y')), Pressed::Ask(Ask::Kill(named(1))));
    assert_eq!(hit(Key::Up), Pressed::Nothing);
    assert_eq!(hit(Key::Letter('s')), Pressed::Ask(Ask::Suspend(named(0))));
    assert_eq!(hit(Key::Letter('r')), Pressed::Ask(Ask::Resume(named(0))));
    assert_eq!(hit(Key::Letter('w')), Pressed::Ask(Ask::Why(named(0))));
    assert_eq!(hit(Key::Letter('a')), Pressed::Ask(Ask::Approvals));
    assert_eq!(hit(Key::Letter('q')), Pressed::Quit);
    view.mode = Mode::Text { title: "why".into(), lines: vec!["a".into(), "b".into()], from: 0 };
    let mut hit = |key| press(&mut view, &snapshot, key);
    assert_eq!([hit(Key::Down), hit(Key::Down), hit(Key::Up)], [const { Pressed::Nothing }; 3]);
    assert_eq!(hit(Key::Letter('k')), Pressed::Nothing, "not while something else is in front");
    assert_eq!(hit(Key::Letter('q')), Pressed::Nothing, "back to the table");
    assert_eq!(hit(Key::Interrupt), Pressed::Quit);
}

/// An instance whose ledger is away.
fn instance() -> Dir {
    let dir = Dir::new();
    drop(play_init(&dir, 100_000, |_| {
        answers(
            vec![unit("ledger", UnitState::Failed, Health::Unknown, "no disk")],
            Phase::Degraded,
            "ledger failed",
        )
    }));
    drop(play(&dir, "agents", 100_000, |method, params| match method {
        "agents.list" => result(json!({"agents": [{
            "aid": aid(), "name": "shopper", "role": "analyst", "operator": "alice", "state": "running",
            "manifest_digest": "0".repeat(64),
        }]})),
        "agents.approvals" => result(json!({"approvals": []})),
        "agents.budget" => result(json!({"agent": aid(), "budgets": [
            {"budget": "models.spend_usd", "given": 5_000_000, "used": 250_000, "reserved": 0, "below": 0}]})),
        "agents.suspend" => {
            assert_eq!(params["agent"], aid());
            result(json!({
                "aid": aid(), "name": "shopper", "role": "analyst", "operator": "alice", "state": "suspended",
                "manifest_digest": "0".repeat(64),
            }))
        }
        other => panic!("{other}"),
    }));
    drop(play(&dir, "egress", 100_000, |_, _| result(json!({"agents": []}))));
    dir
}

/// A terminal whose screen is put together from what is written to it.
struct Terminal {
    master: std::fs::File,
    screen: vt100::Parser,
}

impl Terminal {
    /// Reads until the screen has the text. A minute without anything new is a screen that stands still.
    fn until(&mut self, text: &str) {
        let mut bytes = [0; 4096];
        while !self.screen.screen().contents().contains(text) {
            let mut ready = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            let news = poll(&mut ready, PollTimeout::from(60_000_u16)).unwrap();
            assert!(news > 0, "{text:?} is not on\n{}", self.screen.screen().contents());
            let length = self.master.read(&mut bytes).unwrap();
            self.screen.process(&bytes[..length]);
        }
    }

    fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }
}

#[test]
fn it_lives_on_a_terminal_and_leaves_it_as_it_was() {
    let dir = instance();
    let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(Some(&size), None).unwrap();
    let slave = pty.slave;
    let modes = |fd: &std::os::fd::OwnedFd| nix::sys::termios::tcgetattr(fd.as_fd()).unwrap().local_flags;
    let before = modes(&slave);
    let layout = Layout::under(&dir.0);
    let watched = slave.try_clone().unwrap();
    let shown = thread::spawn(move || {
        let mut screen = Screen::open(&watched, &watched).unwrap();
        watch(layout, &mut screen).unwrap();
    });
    let mut terminal = Terminal { master: pty.master.into(), screen: vt100::Parser::new(24, 80, 0) };
    terminal.until("shopper");
    terminal.until("NO ANSWER from ledger");
    terminal.until("$0.2500");
    assert!(!modes(&slave).contains(nix::sys::termios::LocalFlags::ECHO));
    let contents = terminal.screen.screen().contents();
    assert!(contents.starts_with("octant top ") && contents.contains("failed"), "{contents}");
    terminal.press("s");
    terminal.until("is suspended");
    terminal.press("k");
    terminal.until("kill shopper");
    terminal.press("n");
    terminal.until("not killed");
    terminal.press("a");
    terminal.until("approvals that wait");
    terminal.press("q");
    terminal.until("q: quit");
    terminal.press("\x03");
    shown.join().unwrap();
    assert_eq!(modes(&slave), before);
}

#[test]
fn where_nothing_can_be_drawn_over_it_is_shown_once() {
    let dir = instance();
    let (exit, stdout, stderr) = crate::tests::octant(&dir.0, &["top"]);
    assert!(
        exit == octant_ids::Exit::Ok && stdout.contains("shopper") && !stdout.contains('\u{1b}'),
        "{stdout}{stderr}"
    );
    assert!(!stdout.contains("q: quit"), "there are no keys");
    let (_, stdout, _) = crate::tests::octant(&dir.0, &["top", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(document["agents"][0]["spent_microusd"], 250_000);
}
