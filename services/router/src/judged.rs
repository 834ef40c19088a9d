//! What callers think of their answers: the share of calls that passed is what the strategy `success` goes by.

use crate::agents::{Agent, lock};
use crate::http::{JSON, Reply, failed, whole};
use crate::router::{Router, now_ms};
use hyper::header::HeaderValue;
use octant_llm::{Dialect, Failure, Kind};
use serde::Deserialize;
use serde_json::json;
use std::collections::VecDeque;

/// How many answers of one caller can be judged: the last.
const ANSWERS_MAX: usize = 256;
/// The header by which an answer says its number.
const ID: &str = "octant-call-id";

/// An answer that ended well.
#[derive(Debug)]
pub(crate) struct Answered {
    /// By chance: what the ledger counts is not for everybody.
    pub(crate) id: u64,
    pub(crate) intent: u64,
    pub(crate) deployment: String,
}

/// The last answers of one caller that it has not judged.
#[derive(Debug, Default)]
pub(crate) struct Recent(VecDeque<Answered>);

impl Recent {
    pub(crate) fn add(&mut self, answer: Answered) {
        if self.0.len() >= ANSWERS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(answer);
    }

    /// Takes one out: it is judged once.
    fn take(&mut self, id: u64) -> Option<Answered> {
        let place = self.0.iter().position(|answer| answer.id == id)?;
        self.0.remove(place)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Verdict {
    id: String,
    ok: bool,
}

/// An answer with its number.
pub(crate) fn with_id(mut reply: Reply, id: u64) -> Reply {
    if let Ok(id) = HeaderValue::from_str(&format!("{id:016x}")) {
        reply.headers_mut().insert(ID, id);
    }
    reply
}

/// Takes what a caller says of one of its own answers.
pub(crate) fn judge(router: &Router, agent: &Agent, body: &[u8]) -> Reply {
    let refused = |kind, why: String| failed(Dialect::Chat, &Failure::new(kind, why));
    let Ok(Verdict { id, ok }) = serde_json::from_slice(body) else {
        return refused(
            Kind::Invalid,
            format!("octant: write {{\"id\": what {ID} said, \"ok\": true or false}}"),
        );
    };
    let found = u64::from_str_radix(&id, 16).ok().and_then(|number| lock(&agent.answered).take(number));
    let Some(Answered { intent, deployment, .. }) = found else {
        let why = format!("octant: no answer of yours is {id:.32?}, or it has not ended well, or was judged");
        return refused(Kind::NotFound, why);
    };
    if !ok && let Some(setup) = router.setup() {
        let index = setup.catalogue.deployments.iter().position(|other| other.name == deployment);
        if let Some(index) = index {
            lock(&setup.health).rejected(index, now_ms());
        }
    }
    let mut what = json!({"do": "judge an answer", "call": intent, "deployment": deployment, "ok": ok});
    if let Some(by) = &agent.by {
        what["by"] = json!(by);
    }
    router.book.decided(agent.on_record(), &what);
    whole(200, JSON, json!({"id": id, "ok": ok}).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_judged_once_and_the_oldest_not_at_all() {
        let mut recent = Recent::default();
        for id in 0..=ANSWERS_MAX as u64 {
            recent.add(Answered { id, intent: id, deployment: "a".into() });
        }
        assert!(recent.take(0).is_none());
        assert!(recent.take(1).is_some() && recent.take(1).is_none());
    }
}
