use super::*;

const MS: u64 = 1_000_000;

fn def(name: &str, needs: &[usize]) -> Def {
    Def {
        name: name.into(),
        needs: needs.to_vec(),
        kind: Kind::Notify,
        restart: Restart::Always,
        criticality: Criticality::Degrades,
        ready_within_ns: 1000 * MS,
        stop_within_ns: 500 * MS,
        watchdog_ns: 0,
        broken: None,
    }
}

/// ledger <- spawner <- agents, as at boot.
fn three() -> Graph {
    let mut ledger = def("ledger", &[]);
    ledger.criticality = Criticality::Required;
    Graph::new(vec![ledger, def("spawner", &[0]), def("agents", &[0, 1])], 7, 0).unwrap()
}

fn spawns(actions: &[Action]) -> Vec<usize> {
    actions.iter().filter_map(|a| if let Action::Spawn(unit) = a { Some(*unit) } else { None }).collect()
}

fn terminated(actions: &[Action]) -> Vec<usize> {
    actions
        .iter()
        .filter_map(|a| if let Action::Terminate { unit, .. } = a { Some(*unit) } else { None })
        .collect()
}

fn say(graph: &mut Graph, unit: usize, notice: Notice, now: u64) -> Vec<Action> {
    graph.step(Event::Notified { unit, notice }, now)
}

fn end(graph: &mut Graph, unit: usize, how: Ended, now: u64) -> Vec<Action> {
    let pid = graph.pid(unit).expect("it runs");
    graph.step(Event::Exited { unit, pid, how }, now)
}

fn running() -> Graph {
    let mut graph = three();
    let mut next = spawns(&graph.step(Event::Tick, 0));
    for pid in 100.. {
        let [unit] = next[..] else { break };
        graph.step(Event::Spawned { unit, pid }, 0);
        next = spawns(&say(&mut graph, unit, Notice::Ready, 0));
    }
    assert_eq!(graph.phase().0, Phase::Running);
    graph
}

#[test]
fn units_start_when_what_they_need_is_ready_and_not_before() {
    let mut graph = three();
    assert_eq!(spawns(&graph.step(Event::Tick, 0)), [0]);
    assert!(spawns(&graph.step(Event::Spawned { unit: 0, pid: 9 }, 1)).is_empty());
    assert_eq!(graph.state(1), UnitState::Waiting);
    assert_eq!(graph.why(1), "waits for ledger, which is starting");
    assert_eq!(spawns(&say(&mut graph, 0, Notice::Ready, 2)), [1]);
    assert_eq!(graph.phase().0, Phase::Booting);
}

#[test]
fn a_crash_is_followed_by_growing_pauses_and_then_by_failure() {
    let mut graph = running();
    let mut now = 1;
    let mut pauses = Vec::new();
    loop {
        let actions = end(&mut graph, 1, Ended::Signal(11), now);
        assert!(actions.contains(&Action::Kill(1)), "the rest of its cgroup goes with it");
        if graph.state(1) == UnitState::Failed {
            break;
        }
        assert_eq!(graph.state(1), UnitState::BackOff);
        let due = graph.units[1].state.deadline().unwrap();
        pauses.push(due - now);
        assert!(spawns(&graph.step(Event::Tick, due - 1)).is_empty());
        assert_eq!(spawns(&graph.step(Event::Tick, due)), [1]);
        graph.step(Event::Spawned { unit: 1, pid: 50 }, due);
        now = due + 1;
    }
    assert_eq!(pauses.len(), BURST);
    for (i, pause) in pauses.iter().enumerate() {
        let full = BACKOFF_FIRST_NS << i;
        assert!((full / 2..=full).contains(pause), "pause {i} is {pause}");
    }
    assert_eq!(graph.state(2), UnitState::Stopping, "its dependant is stopped");
    assert_eq!(graph.state(0), UnitState::Ready, "what it needed stays");
    end(&mut graph, 2, Ended::Code(0), now);
    assert_eq!(graph.state(2), UnitState::Waiting);
    assert_eq!(graph.phase().0, Phase::Degraded);
}

#[test]
fn an_operator_start_forgets_failures_and_brings_dependants_back() {
    let mut graph = running();
    for _ in 0..=BURST {
        end(&mut graph, 1, Ended::Code(1), 5);
        if graph.state(1) == UnitState::BackOff {
            let due = graph.units[1].state.deadline().unwrap();
            graph.step(Event::Tick, due);
            graph.step(Event::Spawned { unit: 1, pid: 77 }, 5);
        }
    }
    end(&mut graph, 2, Ended::Code(0), 6);
    assert_eq!(spawns(&graph.step(Event::Start(1), 7)), [1]);
    graph.step(Event::Spawned { unit: 1, pid: 78 }, 7);
    assert_eq!(spawns(&say(&mut graph, 1, Notice::Ready, 8)), [2]);
}

#[test]
fn the_loss_of_a_required_unit_is_one_emergency() {
    let mut graph = running();
    let mut emergencies = 0;
    for round in 0..20 {
        if graph.pid(0).is_some() {
            let actions = end(&mut graph, 0, Ended::Code(1), round);
            emergencies += actions.iter().filter(|a| matches!(a, Action::Emergency { unit: 0, .. })).count();
        }
        if let Some(due) = graph.units[0].state.deadline() {
            graph.step(Event::Tick, due);
            graph.step(Event::Spawned { unit: 0, pid: 200 }, due);
        }
    }
    assert_eq!(emergencies, 1);
    assert_eq!(graph.phase().0, Phase::Emergency);
}

#[test]
fn a_unit_that_is_not_ready_in_time_is_killed_and_tried_again() {
    let mut graph = three();
    graph.step(Event::Tick, 0);
    graph.step(Event::Spawned { unit: 0, pid: 9 }, 0);
    assert_eq!(graph.next_deadline(), Some(1000 * MS));
    let actions = graph.step(Event::Tick, 1000 * MS);
    assert!(actions.contains(&Action::Kill(0)));
    assert_eq!(graph.why(0), "not ready within 1000 ms");
    end(&mut graph, 0, Ended::Signal(9), 1001 * MS);
    assert_eq!(graph.state(0), UnitState::BackOff);
    assert_eq!(graph.restarts(0), 1);
}

#[test]
fn silence_past_the_watchdog_is_a_hang() {
    let mut graph = running();
    for (def, unit) in graph.defs.iter_mut().zip(&mut graph.units) {
        def.watchdog_ns = 2000 * MS;
        unit.state = State::Ready { deadline: 2000 * MS };
    }
    say(&mut graph, 1, Notice::Alive, 1500 * MS);
    say(&mut graph, 0, Notice::Alive, 1900 * MS);
    let actions = graph.step(Event::Tick, 2000 * MS);
    assert!(actions.contains(&Action::Kill(2)) && !actions.contains(&Action::Kill(1)), "{actions:?}");
    assert_eq!(graph.why(2), "no sign of life for 2000 ms");
}

#[test]
fn a_killed_process_that_does_not_die_is_killed_again() {
    let mut graph = running();
    graph.step(Event::Stop(2), 0);
    assert!(graph.step(Event::Tick, 500 * MS).contains(&Action::Kill(2)));
    assert!(graph.step(Event::Tick, 500 * MS + KILL_AGAIN_NS).contains(&Action::Kill(2)));
    assert_eq!(graph.state(2), UnitState::Stopping, "outside a shutdown it is never given up");
    graph.step(Event::Shutdown, 501 * MS + KILL_AGAIN_NS);
    let actions = graph.step(Event::Tick, 500 * MS + 2 * KILL_AGAIN_NS);
    assert_eq!(terminated(&actions), [1], "the shutdown goes on: {actions:?}");
}

#[test]
fn a_shutdown_walks_backwards_and_ends() {
    let mut graph = running();
    assert_eq!(terminated(&graph.step(Event::Shutdown, 0)), [2]);
    assert_eq!(terminated(&end(&mut graph, 2, Ended::Code(0), 1)), [1]);
    assert_eq!(terminated(&end(&mut graph, 1, Ended::Code(0), 2)), [0]);
    assert!(end(&mut graph, 0, Ended::Code(0), 3).contains(&Action::AllDown));
    assert!(graph.step(Event::Start(0), 4).is_empty(), "nothing starts again");
}

#[test]
fn stopping_a_unit_stops_its_dependants_first_and_starting_it_brings_them_back() {
    let mut graph = running();
    assert_eq!(terminated(&graph.step(Event::Stop(1), 0)), [2]);
    assert_eq!(terminated(&end(&mut graph, 2, Ended::Code(0), 1)), [1]);
    assert_eq!(graph.state(2), UnitState::Waiting);
    end(&mut graph, 1, Ended::Code(0), 2);
    assert_eq!(graph.state(1), UnitState::Down);
    assert_eq!(spawns(&graph.step(Event::Start(1), 3)), [1]);
}

#[test]
fn a_restart_leaves_dependants_alone_and_is_no_failure() {
    let mut graph = running();
    assert_eq!(terminated(&graph.step(Event::Restart(0), 0)), [0]);
    assert_eq!(spawns(&end(&mut graph, 0, Ended::Signal(15), 1)), [0]);
    assert_eq!((graph.state(1), graph.state(2)), (UnitState::Ready, UnitState::Ready));
    assert_eq!(graph.restarts(0), 0);
}

#[test]
fn a_oneshot_is_satisfied_by_its_end_and_lost_by_its_failure() {
    let mut job = def("job", &[]);
    job.kind = Kind::Oneshot;
    job.restart = Restart::Never;
    let mut graph = Graph::new(vec![job.clone(), def("after", &[0])], 0, 0).unwrap();
    graph.step(Event::Tick, 0);
    graph.step(Event::Spawned { unit: 0, pid: 5 }, 0);
    let waiting = (Phase::Booting, "after is waiting: waits for job, which is starting".to_owned());
    assert_eq!(graph.phase(), waiting, "the one at its work is as it should be");
    assert_eq!(spawns(&end(&mut graph, 0, Ended::Code(0), 1)), [1]);
    assert_eq!(graph.state(0), UnitState::Done);

    let mut graph = Graph::new(vec![job, def("after", &[0])], 0, 0).unwrap();
    graph.step(Event::Tick, 0);
    graph.step(Event::Spawned { unit: 0, pid: 5 }, 0);
    assert!(spawns(&end(&mut graph, 0, Ended::Code(3), 1)).is_empty());
    assert_eq!((graph.state(0), graph.lost_need(1)), (UnitState::Failed, Some(0)));
    assert_eq!(graph.why(1), "waits for job, which is failed");
}

#[test]
fn health_is_shown_and_restarts_nothing() {
    let mut graph = running();
    assert_eq!(graph.health(0), Health::Unknown);
    say(&mut graph, 0, Notice::Unhealthy("disk full".into()), 1);
    assert_eq!((graph.health(0), graph.state(0)), (Health::Unhealthy, UnitState::Ready));
    assert_eq!(graph.phase(), (Phase::Degraded, "ledger is unhealthy: disk full".into()));
    assert!(say(&mut graph, 0, Notice::Unhealthy("disk full".into()), 2).is_empty(), "said once");
    say(&mut graph, 0, Notice::Healthy, 3);
    assert_eq!(graph.phase().0, Phase::Running);
}

#[test]
fn a_broken_unit_is_shown_as_failed_and_cannot_be_started() {
    let mut broken = def("web", &[]);
    broken.broken = Some("unknown key".into());
    let mut graph = Graph::new(vec![def("ledger", &[]), broken], 0, 0).unwrap();
    assert_eq!(spawns(&graph.step(Event::Tick, 0)), [0]);
    assert!(graph.step(Event::Start(1), 1).is_empty());
    assert_eq!((graph.state(1), graph.why(1)), (UnitState::Failed, "unknown key".to_owned()));
}

#[test]
fn a_late_or_foreign_exit_changes_nothing() {
    let mut graph = running();
    let before = graph.pid(0);
    assert!(graph.step(Event::Exited { unit: 0, pid: 4242, how: Ended::Code(0) }, 5).is_empty());
    assert_eq!((graph.pid(0), graph.state(0)), (before, UnitState::Ready));
}

#[test]
fn state_survives_a_replacement_and_unknown_units_are_returned() {
    let mut graph = running();
    say(&mut graph, 0, Notice::Healthy, 3);
    let saved = serde_json::to_string(&graph.save()).unwrap();
    let mut next = Graph::new(vec![def("ledger", &[]), def("new", &[0])], 1, 10).unwrap();
    let strangers = next.restore(serde_json::from_str(&saved).unwrap());
    assert_eq!(strangers.iter().map(|s| s.0.as_str()).collect::<Vec<_>>(), ["spawner", "agents"]);
    assert_eq!((next.pid(0), next.health(0)), (graph.pid(0), Health::Ok));
    assert_eq!(spawns(&next.step(Event::Tick, 11)), [1]);
}

#[test]
fn a_list_out_of_order_is_refused() {
    let bad = Graph::new(vec![def("a", &[1]), def("b", &[])], 0, 0);
    assert_eq!(bad.unwrap_err(), NotOrdered { unit: "a".into() });
}

#[test]
fn a_unit_that_is_never_ready_is_given_up_however_long_its_time() {
    let mut slow = def("slow", &[]);
    slow.ready_within_ns = 120_000 * MS;
    let mut graph = Graph::new(vec![slow], 0, 0).unwrap();
    let mut starts = spawns(&graph.step(Event::Tick, 0)).len();
    let mut now = 0;
    while graph.state(0) != UnitState::Failed {
        if graph.pid(0).is_none() && graph.state(0) == UnitState::Starting {
            graph.step(Event::Spawned { unit: 0, pid: 9 }, now);
        }
        now = graph.next_deadline().expect("something is always due");
        starts += spawns(&graph.step(Event::Tick, now)).len();
        if graph.state(0) == UnitState::Stopping {
            end(&mut graph, 0, Ended::Signal(9), now);
        }
    }
    assert_eq!(starts, 4);
    assert_eq!(graph.why(0), "not ready within 120000 ms; it failed too often");
}
