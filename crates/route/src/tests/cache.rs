//! What may be given again, and how long it is kept.

use super::question;
use crate::{Cache, CacheKey, CacheLimits, Uncacheable, cache_key, cacheable, keepable};
use octant_ids::Sha256;
use octant_llm::{
    Effort, Format, Image, Json, Message, Part, Reasoning, Request, Role, StopReason, Tool, ToolChoice,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn tool(name: &str) -> Tool {
    Tool { name: name.to_owned(), description: None, schema: Json::empty(), strict: None }
}

#[test]
fn everything_that_can_change_an_answer_changes_the_key() {
    let base = question("hello");
    let changes: Vec<fn(&mut Request)> = vec![
        |request| request.model = "m".to_owned(),
        |request| request.system = vec![Part::Text("hello".to_owned())],
        |request| request.messages[0].role = Role::Assistant,
        |request| request.messages[0].role = Role::System,
        |request| request.messages[0].parts.push(Part::Text(String::new())),
        |request| request.messages.push(Message { role: Role::User, parts: Vec::new() }),
        |request| request.messages[0].parts = vec![Part::Refusal("hello".to_owned())],
        |request| request.messages[0].parts = vec![Part::Text("hell".to_owned()), Part::Text("o".to_owned())],
        |request| request.tools = vec![tool("t")],
        |request| request.tools = vec![tool("t"), tool("t")],
        |request| request.tool_choice = ToolChoice::None,
        |request| request.tool_choice = ToolChoice::Any,
        |request| request.tool_choice = ToolChoice::Named("t".to_owned()),
        |request| request.parallel_tools = Some(false),
        |request| request.parallel_tools = Some(true),
        |request| request.max_output = Some(1),
        |request| request.sampling.temperature = Some(0.0),
        |request| request.sampling.top_p = Some(0.0),
        |request| request.sampling.top_k = Some(0),
        |request| request.sampling.seed = Some(0),
        |request| request.sampling.stop = vec![String::new()],
        |request| request.sampling.presence_penalty = Some(0.0),
        |request| request.format = Format::Json,
        |request| request.reasoning = Some(Reasoning::default()),
        |request| request.reasoning = Some(Reasoning { effort: Some(Effort::None), ..Reasoning::default() }),
        |request| request.reasoning = Some(Reasoning { budget: Some(0), ..Reasoning::default() }),
        |request| request.reasoning = Some(Reasoning { shown: true, ..Reasoning::default() }),
    ];
    let mut keys = BTreeSet::from([cache_key("a", &base), cache_key("b", &base)]);
    for change in &changes {
        let mut other = base.clone();
        change(&mut other);
        keys.insert(cache_key("a", &other));
    }
    assert_eq!(keys.len(), changes.len() + 2, "each is another request, and each agent has its own");
}

#[test]
fn what_changes_nothing_does_not_change_the_key() {
    let base = question("hello");
    let mut other = base.clone();
    other.stream = true;
    other.stream_usage = true;
    other.user = Some("somebody".to_owned());
    other.messages[0].parts.push(Part::CacheMark { hour: true });
    assert_eq!(cache_key("a", &base), cache_key("a", &other));
    let zero = |zero: f64| {
        let mut request = base.clone();
        request.sampling.temperature = Some(zero);
        cache_key("a", &request)
    };
    assert_eq!(zero(0.0), zero(-0.0));
}

#[test]
fn only_what_is_expected_to_be_the_same_is_given_again() {
    let mut request = question("hello");
    assert_eq!(cacheable(&request, false), Err(Uncacheable::Chance));
    assert_eq!(cacheable(&request, true), Ok(()));
    request.sampling.temperature = Some(0.2);
    assert_eq!(cacheable(&request, false), Err(Uncacheable::Chance));
    request.sampling.temperature = Some(0.0);
    assert_eq!(cacheable(&request, false), Ok(()));
    let picture = Part::Image(Image::Url("https://a.example/x.png".to_owned()));
    let result = Part::ToolResult { id: "1".to_owned(), parts: vec![picture], failed: false };
    request.messages[0].parts.push(result);
    assert_eq!(cacheable(&request, true), Err(Uncacheable::Fetched));
    assert_eq!(keepable(StopReason::ToolCalls), Ok(()));
    for cut in [StopReason::Length, StopReason::Refusal, StopReason::Filtered, StopReason::Paused] {
        assert_eq!(keepable(cut), Err(Uncacheable::NotWhole));
    }
}

fn key(number: u8) -> CacheKey {
    CacheKey(Sha256([number; 32]))
}

#[test]
fn who_was_not_asked_for_longest_goes_first_and_nothing_is_kept_too_long() {
    let mut cache = Cache::new(CacheLimits { bytes: 1000, entries: 3, ttl_ms: 100 });
    for number in 0..3 {
        cache.put(key(number), number, 100, 0);
    }
    assert_eq!(cache.get(&key(0), 50), Some(&0));
    cache.put(key(3), 3, 100, 50);
    assert_eq!(cache.get(&key(1), 50), None, "the oldest use");
    assert_eq!(cache.get(&key(0), 99), Some(&0));
    assert_eq!(cache.get(&key(0), 100), None, "too old, however often it was asked for");
    assert_eq!(cache.get(&key(3), 149), Some(&3));
    cache.put(key(4), 4, 126, 50);
    assert_eq!(cache.get(&key(4), 50), None, "larger than an eighth of all");
    cache.clear();
    assert_eq!((cache.size(), cache.get(&key(3), 50)), ((0, 0), None));
}

proptest! {
    #[test]
    fn it_is_never_larger_than_it_may_be(steps in prop::collection::vec((0_u8..20, 0_usize..200, any::<bool>()), 0..300)) {
        let mut cache = Cache::new(CacheLimits { bytes: 1000, entries: 6, ttl_ms: 40 });
        let mut truth = BTreeMap::new();
        for (now, (number, bytes, put)) in (0_u64..).zip(steps) {
            if put {
                cache.put(key(number), now, bytes, now);
                truth.insert(number, now);
            } else if let Some(at) = cache.get(&key(number), now) {
                prop_assert_eq!(truth.get(&number), Some(at), "the last that was put, or nothing");
                prop_assert!(*at + 40 > now);
            }
            let (entries, bytes) = cache.size();
            prop_assert!(entries <= 6 && bytes <= 1000);
        }
    }
}
