use super::places::Places;
use super::*;
use octant_api::ledger::{Kind, Partition};
use octant_api::text::Json;
use octant_ids::{Aid, Principal};
use proptest::prelude::*;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory of its own, gone when the test ends.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("octant-index-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn index(&self) -> PathBuf {
        self.0.join("index.db")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

fn agent(number: u8) -> Aid {
    Aid::from_bytes([number; 16])
}

fn digest(number: u8) -> Sha256 {
    Sha256([number; 32])
}

fn principal(number: u8) -> Principal {
    match number {
        0 => Principal::Init,
        1 => Principal::Operator(1000),
        2 => Principal::Stranger(1000),
        3 => Principal::Service("agents".parse().unwrap()),
        other => Principal::Agent(agent(other)),
    }
}

fn plain(seq: u64) -> Entry {
    Entry {
        seq,
        boot_id: "0".repeat(32),
        mono_ns: seq,
        wall_ms: seq.saturating_add(1_000),
        actor: Principal::Init,
        kind: Kind::Boot,
        backfilled: false,
        intent: None,
        partition: None,
        manifest: None,
        policy: None,
        subject: None,
        payload: Json::from_text("null".to_owned()).unwrap(),
        erasable: None,
        outside: None,
        prev: Sha256::ZERO,
        hash: Sha256([u8::try_from(seq % 251).unwrap(); 32]),
    }
}

fn plains(range: RangeInclusive<u64>) -> Vec<Entry> {
    range.map(plain).collect()
}

fn matches(query: &QueryRequest, entry: &Entry) -> bool {
    query.actor.as_ref().is_none_or(|actor| *actor == entry.actor)
        && query.agent.is_none_or(|agent| entry.partition.is_some_and(|place| place.agent == agent))
        && query.subject.is_none_or(|subject| entry.subject == Some(subject))
        && (query.kinds.is_empty() || query.kinds.contains(&entry.kind))
        && query.intent.is_none_or(|seq| entry.seq == seq || entry.intent == Some(seq))
        && query.since_ms.is_none_or(|since| entry.wall_ms >= since)
        && query.until_ms.is_none_or(|until| entry.wall_ms < until)
        && entry.seq >= query.from
}

/// Every page, each of at most `limit` entries and `runs` runs.
fn all(index: &Index, query: &QueryRequest, from: u64, limit: usize, runs: u64) -> Vec<u64> {
    let mut seqs = Vec::new();
    let mut next = Some(from);
    while let Some(from) = next {
        let found = index.find_within(runs, query, from, limit).unwrap();
        assert!(found.seqs.len() <= limit);
        assert!(found.next.is_none_or(|next| next > from), "a page that leads nowhere");
        seqs.extend(found.seqs);
        next = found.next;
    }
    seqs
}

/// Times that are close together, jump, and reach beyond what the database can hold.
fn time() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0_u64..50, 1 => Just(i64::MAX as u64 - 1), 1 => (i64::MAX as u64)..=u64::MAX]
}

fn kind() -> impl Strategy<Value = Kind> {
    (0..Kind::ALL.len()).prop_map(|at| Kind::ALL[at])
}

/// Intents near the entries, and anything.
fn intent() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 4_000_u64..4_200, 1 => any::<u64>()]
}

prop_compose! {
    fn entry()(
        actor in 0_u8..6, kind in kind(), wall_ms in time(), subject in proptest::option::of(0_u8..20),
        about in proptest::option::of(4_u8..8), intent in proptest::option::of(intent()),
    ) -> Entry {
        Entry {
            actor: principal(actor),
            kind,
            wall_ms,
            subject: subject.map(digest),
            partition: about.map(|n| Partition { agent: agent(n), seq: 1, prev: Sha256::ZERO }),
            intent,
            ..plain(1)
        }
    }
}

prop_compose! {
    /// Entries one after the other that begin before a change of run and end behind it, or not.
    fn entries()(first in 3_900_u64..4_100, entries in proptest::collection::vec(entry(), 1..300)) -> Vec<Entry> {
        let numbered = |(seq, entry): (u64, Entry)| Entry { seq, ..entry };
        (first..).zip(entries).map(numbered).collect()
    }
}

prop_compose! {
    fn query()(
        actor in proptest::option::weighted(0.2, 0_u8..6), agent_ in proptest::option::weighted(0.2, 3_u8..8),
        subject in proptest::option::weighted(0.2, 0_u8..21), kinds in proptest::collection::vec(kind(), 0..4),
        intent in proptest::option::weighted(0.2, intent()), since_ms in proptest::option::weighted(0.3, time()),
        until_ms in proptest::option::weighted(0.3, time()), from in prop_oneof![Just(0), 3_900_u64..4_500, any::<u64>()],
    ) -> QueryRequest {
        QueryRequest {
            actor: actor.map(principal),
            agent: agent_.map(agent),
            subject: subject.map(digest),
            kinds,
            intent,
            since_ms,
            until_ms,
            from,
            limit: 0,
        }
    }
}

/// A query that tells times apart which the index does not.
fn beyond(query: &QueryRequest) -> bool {
    [query.since_ms, query.until_ms].into_iter().flatten().any(|time| i64::try_from(time).is_err())
}

fn check(index: &Index, entries: &[Entry], query: &QueryRequest, limit: usize) {
    let right: Vec<u64> = entries.iter().filter(|e| matches(query, e)).map(|e| e.seq).collect();
    let mut found = all(index, query, 0, limit, 1);
    assert_eq!(found, all(index, query, 0, usize::MAX, RUNS_MAX));
    if beyond(query) {
        found.retain(|seq| entries.iter().any(|e| e.seq == *seq && matches(query, e)));
    }
    assert_eq!(found, right);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_query_finds_exactly_what_matches_however_the_entries_came_and_however_it_is_paged(
        entries in entries(), queries in proptest::collection::vec(query(), 1..12),
        batch in 1_usize..200, limit in 1_usize..40, reopened in any::<bool>(),
    ) {
        let dir = Dir::new();
        let mut index = Index::open(&dir.index()).unwrap();
        for part in entries.chunks(batch) {
            index.add(part).unwrap();
            if reopened {
                drop(index);
                index = Index::open(&dir.index()).unwrap();
                prop_assert_eq!(&index.rebuilt, &None);
            }
        }
        let last = entries.last().unwrap();
        prop_assert_eq!(index.upto().unwrap(), (last.seq, last.hash));
        for query in &queries {
            check(&index, &entries, query, limit);
        }
        for entry in entries.iter().take(20) {
            let outcomes = QueryRequest {
                intent: Some(entry.seq), kinds: vec![Kind::Outcome], ..QueryRequest::default()
            };
            check(&index, &entries, &outcomes, limit);
        }
    }

    #[test]
    fn places_read_back_as_they_were_written(set in proptest::collection::btree_set(0_u16..4096, 1..600)) {
        let mut places = Places::none();
        set.iter().for_each(|place| places.insert(*place));
        let bytes = places.encode();
        prop_assert_eq!(bytes.len(), if set.len() < 256 { 2 * set.len() } else { 512 });
        prop_assert_eq!(Places::decode(&bytes), Some(places.clone()));
        prop_assert_eq!(places.iter().collect::<Vec<_>>(), set.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn bytes_that_are_no_places_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        if let Some(places) = Places::decode(&bytes) {
            prop_assert_eq!(places.encode(), bytes);
        }
    }

    #[test]
    fn a_range_holds_what_lies_in_it(low in 0_u16..4096, high in 0_u16..4096) {
        let wanted: Vec<u16> = (low..=high).collect();
        prop_assert_eq!(Places::range(low, high).iter().collect::<Vec<_>>(), wanted);
    }

    /// A process that was killed, or a loss of power, leaves the database with some part of its journal.
    #[test]
    fn whatever_a_crash_leaves_of_the_journal_is_the_index_of_an_earlier_commit(
        entries in entries(), batch in 1_usize..60, cut in 0.0..1.0_f64,
    ) {
        let (dir, copy) = (Dir::new(), Dir::new());
        let mut index = Index::open(&dir.index()).unwrap();
        let mut commits = vec![0];
        for part in entries.chunks(batch) {
            index.add(part).unwrap();
            commits.push(part.last().unwrap().seq);
        }
        fs::copy(dir.index(), copy.index()).unwrap();
        let journal = fs::read(dir.0.join("index.db-wal")).unwrap();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a share of a length")]
        let kept = (journal.len() as f64 * cut) as usize;
        fs::write(copy.0.join("index.db-wal"), &journal[..kept]).unwrap();
        let index = Index::open(&copy.index()).unwrap();
        let upto = index.upto().unwrap().0;
        prop_assert!(commits.contains(&upto), "{} is not the end of a commit", upto);
        let there: Vec<Entry> = entries.into_iter().filter(|entry| entry.seq <= upto).collect();
        check(&index, &there, &QueryRequest::default(), 100);
        check(&index, &there, &QueryRequest { subject: Some(digest(1)), ..QueryRequest::default() }, 100);
    }

    #[test]
    fn a_changed_byte_never_keeps_it_from_being_made_anew(
        entries in entries(), at in any::<proptest::sample::Index>(), flip in 1_u8.., queries in proptest::collection::vec(query(), 4),
    ) {
        let dir = Dir::new();
        let mut index = Index::open(&dir.index()).unwrap();
        index.add(&entries).unwrap();
        drop(index);
        let mut bytes = fs::read(dir.index()).unwrap();
        let place = at.index(bytes.len());
        bytes[place] ^= flip;
        fs::write(dir.index(), bytes).unwrap();
        let mut index = Index::open(&dir.index()).unwrap();
        for query in &queries {
            // What is found may be wrong, which is why the caller checks it; it ends, and what fails says so.
            if let Err(error) = index.find(query, 0, 1000) {
                prop_assert!(error.is_damage(), "{}", error);
            }
        }
        index.clear().unwrap();
        index.add(&entries).unwrap();
        queries.iter().for_each(|query| check(&index, &entries, query, 100));
    }
}

#[test]
fn every_statement_goes_straight_to_its_rows() {
    let dir = Dir::new();
    let index = Index::open(&dir.index()).unwrap();
    let statements = [
        READ_STATE,
        WRITE_STATE,
        ADD_ENTRY,
        READ_LAST,
        WRITE_SPAN,
        READ_SPAN,
        READ_TIMES,
        READ_PLACES,
        WRITE_PLACES,
    ];
    for sql in statements {
        let mut plan = index.database.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let blank = vec![rusqlite::types::Null; plan.parameter_count()];
        let rows = plan.query_map(rusqlite::params_from_iter(blank), |row| row.get::<_, String>(3)).unwrap();
        for step in rows.map(Result::unwrap) {
            assert!(step.starts_with("SEARCH "), "{sql}: {step}");
        }
    }
    // And a search does not become a walk through a table: the times of a run are the most that one statement reads.
    assert!(READ_TIMES.contains("seq BETWEEN"));
}

#[test]
fn many_entries_of_one_kind_change_the_form_of_their_places_and_nothing_else() {
    let dir = Dir::new();
    let mut index = Index::open(&dir.index()).unwrap();
    let entries = plains(1..=3 * RUN + 7);
    for part in entries.chunks(150) {
        index.add(part).unwrap();
    }
    let boot = QueryRequest { kinds: vec![Kind::Boot; 1000], ..QueryRequest::default() };
    let key = QueryRequest { kinds: vec![Kind::Key], ..QueryRequest::default() };
    check(&index, &entries, &boot, 1000);
    check(&index, &entries, &key, 1000);
}

#[test]
fn a_search_ends_after_so_many_runs_and_says_where_to_go_on() {
    let dir = Dir::new();
    let mut index = Index::open(&dir.index()).unwrap();
    index.add(&plains(1..=3 * RUN)).unwrap();
    let nothing = QueryRequest { kinds: vec![Kind::Key], ..QueryRequest::default() };
    let found = index.find_within(2, &nothing, 5, 10).unwrap();
    assert_eq!(found, Found { seqs: vec![], next: Some(2 * RUN + 1) });
    assert_eq!(index.find_within(2, &nothing, 2 * RUN + 1, 10).unwrap().next, None);
}

#[test]
fn entries_out_of_order_are_refused_and_change_nothing() {
    let dir = Dir::new();
    let mut index = Index::open(&dir.index()).unwrap();
    index.add(&plains(1..=10)).unwrap();
    let refused =
        [plains(12..=13), plains(10..=11), vec![plain(11), plain(13)], vec![plain(0)], vec![plain(u64::MAX)]];
    for entries in refused {
        let error = index.add(&entries).unwrap_err();
        assert!(matches!(error, IndexError::Order { .. } | IndexError::Number(_)), "{error}");
        assert!(!error.is_damage());
        assert_eq!(index.upto().unwrap(), (10, plain(10).hash));
        check(&index, &plains(1..=10), &QueryRequest::default(), 100);
    }
    index.add(&[]).unwrap();
    index.add(&plains(11..=12)).unwrap();
    check(&index, &plains(1..=12), &QueryRequest::default(), 100);
}

#[test]
fn what_is_no_index_is_thrown_away_and_said() {
    let changes: [(&str, &str); 4] = [
        ("another version", "PRAGMA user_version = 77"),
        ("another program's", "PRAGMA application_id = 1"),
        ("a trigger", "CREATE TRIGGER t AFTER INSERT ON entry BEGIN DELETE FROM posting; END"),
        ("a lost row", "DELETE FROM entry WHERE seq = 3"),
    ];
    for (what, change) in changes {
        let dir = Dir::new();
        let mut index = Index::open(&dir.index()).unwrap();
        index.add(&plains(1..=3)).unwrap();
        drop(index);
        Connection::open(dir.index()).unwrap().execute_batch(change).unwrap();
        let index = Index::open(&dir.index()).unwrap();
        assert!(index.rebuilt.is_some(), "{what}");
        assert_eq!(index.upto().unwrap(), (0, Sha256::ZERO), "{what}");
    }
    for garbage in [&b"not a database"[..], &[0; 8192], b"SQLite format 3\0"] {
        let dir = Dir::new();
        fs::write(dir.index(), garbage).unwrap();
        fs::write(dir.0.join("index.db-wal"), garbage).unwrap();
        let mut index = Index::open(&dir.index()).unwrap();
        assert!(index.rebuilt.is_some());
        index.add(&plains(1..=3)).unwrap();
        assert_eq!(index.upto().unwrap().0, 3);
    }
}

#[test]
fn an_index_in_use_is_not_thrown_away() {
    let dir = Dir::new();
    let mut index = Index::open(&dir.index()).unwrap();
    index.add(&plains(1..=3)).unwrap();
    let error = Index::open(&dir.index()).unwrap_err();
    assert!(!error.is_damage(), "{error}");
    assert_eq!(index.upto().unwrap().0, 3);
}

#[test]
fn nothing_stands_beside_it_but_its_journal() {
    let dir = Dir::new();
    let mut index = Index::open(&dir.index()).unwrap();
    for first in 0..20 {
        index.add(&plains(first * 1000 + 1..=(first + 1) * 1000)).unwrap();
        let times = QueryRequest { since_ms: Some(5_000), until_ms: Some(9_000), ..QueryRequest::default() };
        index.find(&times, 0, 1000).unwrap();
    }
    let mut names: Vec<_> = fs::read_dir(&dir.0).unwrap().map(|file| file.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["index.db", "index.db-wal"]);
    let journal = fs::metadata(dir.0.join("index.db-wal")).unwrap().len();
    assert!(journal <= 6 << 20, "{journal}");
    index.clear().unwrap();
    assert_eq!(index.upto().unwrap(), (0, Sha256::ZERO));
    assert!(fs::metadata(dir.index()).unwrap().len() <= 64 << 10);
}
