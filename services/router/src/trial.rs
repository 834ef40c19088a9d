//! An operator's question to every deployment of a model: whether it answers, with its key, right now.

use crate::agents::lock;
use crate::ask::{Sending, Silence, ask, failure_of};
use crate::router::{Router, Setup, now_ms, question};
use octant_api::error::{ApiError, Code};
use octant_api::router::TestedRow;
use octant_llm::{Answer, Failure, Kind, Part};
use octant_route::{Abilities, Load};
use serde_json::json;
use std::time::Duration;

/// What is asked, for how many tokens, and how long an answer may take.
const PROMPT: &str = "Say ok.";
const OUTPUT: u64 = 64;
const WITHIN: Duration = Duration::from_secs(20);
/// How much of an answer is shown, in characters.
const SHOWN: usize = 200;

impl Router {
    /// Asks each deployment of a model once. What it costs nobody's budget has; it is on record as the operator's.
    pub(crate) async fn test(&self, model: &str, by: &str) -> Result<Vec<TestedRow>, ApiError> {
        let refuse = |code, why: String| {
            ApiError::new(
                code,
                "test a model",
                model.chars().take(128).collect::<String>(),
                why,
                "octant router providers lists them",
            )
        };
        let setup =
            self.setup().ok_or_else(|| refuse(Code::Unavailable, "router.toml is not in force".into()))?;
        let request = question(model, PROMPT, Some(OUTPUT));
        let (choice, ..) = self.choose(&setup, None, (&request, Abilities::needed(&request)), 64);
        let indices = choice.candidates.iter().map(|candidate| candidate.deployment);
        let mut indices: Vec<usize> =
            indices.chain(choice.left_out.iter().map(|left| left.deployment)).collect();
        indices.sort_unstable();
        if indices.is_empty() {
            return Err(refuse(Code::NotFound, "no deployment has it".into()));
        }
        let mut rows = Vec::new();
        for index in indices {
            rows.push(self.test_one(&setup, index, by).await);
        }
        Ok(rows)
    }

    async fn test_one(&self, setup: &Setup, index: usize, by: &str) -> TestedRow {
        let since = now_ms();
        let deployment = &setup.catalogue.deployments[index];
        let intent = json!({
            "do": "test a model", "deployment": deployment.name, "model": deployment.full,
            "host": setup.endpoints[index].host, "key": deployment.key, "by": by,
        });
        let said = match self.book.intent(None, intent).await {
            Err(why) => Err(format!("nothing is asked that cannot be put on record: {why}")),
            Ok(intent) => {
                let said = self.asked_once(setup, index).await.map_err(|failure| failure.message);
                let became = json!({"done": said.is_ok(), "why": said.as_ref().err()});
                self.book.outcome(None, intent, &became);
                said
            }
        };
        TestedRow {
            deployment: deployment.name.clone(),
            answered: said.is_ok(),
            ms: now_ms().saturating_sub(since),
            said: said.unwrap_or_else(|why| why).chars().take(SHOWN).collect(),
        }
    }

    async fn asked_once(&self, setup: &Setup, index: usize) -> Result<String, Failure> {
        let deployment = &setup.catalogue.deployments[index];
        let dialect = deployment.provider.dialect;
        let load = Load { input: 64, output: OUTPUT };
        let request = question(&deployment.model, PROMPT, Some(OUTPUT));
        let body = dialect.write_request_as(&request, deployment.provider.manner())?;
        let started = lock(&setup.health).started(index, load, now_ms());
        let waits =
            |_| Failure::new(Kind::Overloaded, "it is left alone for now; octant router providers says why");
        let call = started.map_err(waits)?;
        let sending =
            Sending { index, path: deployment.path(false), body, hints: None, within: WITHIN, key: None };
        let said = match ask(self, setup, sending, &call).await {
            Err(silence) => Err(silence),
            Ok(mut spoken) => match spoken.answer.body.whole(crate::http::BODY_MAX).await {
                Err(error) => Err(failure_of(error).into()),
                Ok(body) => dialect
                    .read_answer(&spoken.scrub.whole(&body))
                    .and_then(|events| Answer::collect(&events))
                    .map_err(Silence::from),
            },
        };
        let mut health = lock(&setup.health);
        match said {
            Err(silence) => {
                silence.ends(call, &mut health);
                Err(silence.failure().clone())
            }
            Ok(answer) => {
                health.succeeded(
                    call,
                    Load { input: answer.usage.input, output: answer.usage.output },
                    now_ms(),
                );
                let text = answer.message().parts.into_iter().map(|part| match part {
                    Part::Text(text) => text,
                    _ => String::new(),
                });
                Ok(text.collect())
            }
        }
    }
}
