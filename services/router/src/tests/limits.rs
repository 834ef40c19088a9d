//! Budgets: nobody uses more than there is, however many ask at a time.

use super::{CHAT, CHUNKS, PLENTY, Upstream, World, deployment, events, json, outcome, tokens};
use octant_api::agents::Amounts;
use octant_api::router::{Above, WindowLimits};
use serde_json::json as value;

const ASK: &str = r#"{"model":"p-a/m-a","max_tokens":3,"messages":[{"role":"user","content":"Hi"}]}"#;

#[tokio::test]
async fn sixty_four_callers_stop_at_the_cap() {
    let upstream = Upstream::new(vec![json("200 OK", CHAT)]).await;
    let cap = 12 * 40;
    let world = World::new(&deployment("a", "chat", upstream.at), &["p-a/*"], tokens(cap)).await;
    let mut answered = 0;
    // Until nobody has anything left: what is reserved for others comes back.
    for _ in 0..4 {
        let calls: Vec<_> = (0..64).map(|_| world.ask("/v1/chat/completions", ASK)).collect();
        for (status, _, answer) in join_all(calls).await {
            match status {
                200 => answered += 1,
                429 => assert!(answer.contains("models.tokens"), "{answer}"),
                other => panic!("{other}: {answer}"),
            }
        }
    }
    let used = world.agent.purse.close().tokens;
    assert_eq!(used, answered * 12, "each that was answered used 12");
    assert!(used <= cap && answered > 0, "{used} of {cap}");
    assert_eq!(
        u64::try_from(upstream.asked.lock().unwrap().len()).unwrap(),
        answered,
        "nobody else was asked for"
    );
}

async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, place) in futures.iter_mut().zip(&mut done) {
            if place.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *place = Some(value);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[tokio::test]
async fn an_upstream_that_says_more_than_it_was_told_is_cut() {
    let long = CHUNKS[1].replace("Hello", &"word ".repeat(40));
    let mut script = events(&CHUNKS[..1]);
    for _ in 0..50 {
        script.extend(events(&[&long]).into_iter().skip(1));
    }
    script.push(Vec::new());
    let upstream = Upstream::new(vec![script]).await;
    let world = World::new(&deployment("a", "chat", upstream.at), &["p-a/*"], PLENTY).await;
    let body = ASK.replacen('{', r#"{"stream":true,"#, 1).replace("\"max_tokens\":3", "\"max_tokens\":100");
    let (status, _, answer) = world.ask("/v1/chat/completions", &body).await;
    assert_eq!(status, 200);
    assert!(answer.contains("were reserved") && answer.contains("\"error\""), "{answer}");
    let done = outcome(&world.lines(2).await);
    assert_eq!((&done["failed"], &done["usage"]["told"]), (&value!("spent"), &value!(false)));
    assert_eq!(done["usage"]["output"], 100, "all that was reserved is owed");
}

#[tokio::test]
async fn who_does_not_say_how_much_gets_what_is_left_and_the_upstream_is_told() {
    let upstream = Upstream::new(vec![json("200 OK", CHAT)]).await;
    let world = World::new(&deployment("a", "chat", upstream.at), &["p-a/*"], tokens(200)).await;
    let body = r#"{"model":"p-a/m-a","messages":[{"role":"user","content":"Hi"}]}"#;
    let (status, _, answer) = world.ask("/v1/chat/completions", body).await;
    assert_eq!(status, 200, "{answer}");
    let asked = upstream.last();
    let told = asked
        .split("\"max_tokens\":")
        .nth(1)
        .and_then(|rest| rest.split([',', '}']).next())
        .unwrap()
        .parse::<u64>();
    assert!((16..200).contains(&told.unwrap()), "{asked}");
    let much = body.replacen('{', r#"{"max_tokens":900,"#, 1);
    let (status, _, answer) = world.ask("/v1/chat/completions", &much).await;
    assert_eq!(status, 429, "{answer}");
}

#[tokio::test]
async fn money_is_a_budget_too_and_a_minute_has_its_own() {
    let upstream = Upstream::new(vec![json("200 OK", CHAT)]).await;
    let broke = Amounts { microusd: 20, ..PLENTY };
    let world = World::new(&deployment("a", "chat", upstream.at), &["p-a/*"], broke).await;
    let (status, _, answer) = world.ask("/v1/chat/completions", ASK).await;
    assert_eq!(status, 429, "{answer}");
    assert!(answer.contains("models.spend_usd"), "{answer}");
    let mut word = crate::core::tests::word(octant_ids::Aid::from_bytes([8; 16]), &["p-a/*"]);
    word.tokens_per_minute = 150;
    let world = World::with(&deployment("a", "chat", upstream.at), word, PLENTY).await;
    let mut codes = Vec::new();
    for _ in 0..14 {
        codes.push(world.ask("/v1/chat/completions", ASK).await.0);
    }
    assert!(codes.starts_with(&[200]) && codes.contains(&429), "{codes:?}");
}

#[tokio::test]
async fn what_a_child_uses_in_a_day_counts_for_those_above_it() {
    let upstream = Upstream::new(vec![json("200 OK", CHAT)]).await;
    let [child, parent] = [8, 9].map(|n| octant_ids::Aid::from_bytes([n; 16]));
    let mut word = crate::core::tests::word(child, &["p-a/*"]);
    let limits = WindowLimits { tokens_per_day: Some(150), ..WindowLimits::default() };
    word.above = vec![Above { aid: parent, limits }];
    let world = World::with(&deployment("a", "chat", upstream.at), word, PLENTY).await;
    let mut answers = Vec::new();
    for _ in 0..14 {
        answers.push(world.ask("/v1/chat/completions", ASK).await);
    }
    let (status, _, last) = answers.last().unwrap();
    assert!(
        *status == 429 && last.contains(&format!("models.tokens_per_day of {parent}, above it")),
        "{last}"
    );
    let used = 12 * answers.iter().filter(|(status, ..)| *status == 200).count() as u64;
    let mut word = crate::core::tests::word(parent, &["p-a/*"]);
    word.tokens_per_day = Some(150);
    let (parent, _) = world.router.agents.admit(&word).unwrap();
    assert_eq!(world.router.room(&parent).tokens, 150 - used, "the parent has what is left");
}

#[tokio::test]
async fn data_that_may_not_leave_goes_nowhere_else_and_a_price_has_a_cap() {
    let upstream = Upstream::new(vec![json("200 OK", CHAT)]).await;
    let aid = octant_ids::Aid::from_bytes([9; 16]);
    let mut local = crate::core::tests::word(aid, &["*"]);
    local.data = octant_api::router::DataClass::Local;
    let mut cheap = crate::core::tests::word(aid, &["*"]);
    cheap.max_price_microusd = Some(500_000);
    for word in [local, cheap] {
        let world = World::with(&deployment("a", "chat", upstream.at), word, PLENTY).await;
        let (status, _, answer) = world.ask("/v1/chat/completions", ASK).await;
        assert_eq!(status, 403, "{answer}");
        let explained = world.router.explain(Some(&world.agent), "p-a/m-a", "x");
        assert!(
            !explained.denied.is_empty() && explained.lines.iter().any(|line| line.starts_with("not a ")),
            "{explained:?}"
        );
    }
    assert_eq!(upstream.asked.lock().unwrap().len(), 0);
}
