//! Answers that may be given again: the same request of the same agent.
//!
//! Only a request whose answer its sender expects to be the same each time is looked up: temperature 0, or the sender says that it
//! may be. What the picture at a URL shows can change, so such a request never is. Nobody is ever given an answer to a request that is only
//! alike. What is given again was true when it was said, and may not be now: hence nothing is kept longer than a while, and
//! nothing at all unless the operator says so.

use octant_ids::Sha256;
use octant_llm::{
    Format, Image, Message, Part, Reasoning, Request, Role, Sampling, StopReason, Tool, ToolChoice,
};
use sha2::{Digest, Sha256 as Hasher};
use std::collections::{BTreeMap, HashMap};

/// What a request is told apart by: a digest of who asks and of all of it that can change the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheKey(pub Sha256);

/// Why a request is not looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Uncacheable {
    /// Its sender expects another answer each time.
    #[error("its temperature is not 0, and its sender has not said that an answer may be given again")]
    Chance,
    /// The picture at a URL can be another one.
    #[error("it has a picture that is fetched from a URL")]
    Fetched,
    /// The answer was not whole.
    #[error("the answer was not whole")]
    NotWhole,
}

/// Whether the answer to a request may be given again; `asked`: its sender has said so.
///
/// # Errors
/// Why not.
pub fn cacheable(request: &Request, asked: bool) -> Result<(), Uncacheable> {
    if !asked && request.sampling.temperature != Some(0.0) {
        return Err(Uncacheable::Chance);
    }
    let fetched = |part: &Part| matches!(part, Part::Image(Image::Url(_)));
    let messages = request.messages.iter().flat_map(|message| &message.parts);
    let mut parts = request.system.iter().chain(messages);
    let within = |part: &Part| match part {
        Part::ToolResult { parts, .. } => parts.iter().any(fetched),
        part => fetched(part),
    };
    if parts.any(within) { Err(Uncacheable::Fetched) } else { Ok(()) }
}

/// Whether an answer that ended so may be kept: one that was cut short, refused or filtered may be better the next time.
///
/// # Errors
/// That it may not.
pub fn keepable(reason: StopReason) -> Result<(), Uncacheable> {
    match reason {
        StopReason::End | StopReason::Sequence | StopReason::ToolCalls => Ok(()),
        StopReason::Length | StopReason::Refusal | StopReason::Filtered | StopReason::Paused => {
            Err(Uncacheable::NotWhole)
        }
    }
}

/// The key of a request. What counts is everything but whether it is streamed, who the sender says it is for, and what the
/// provider is asked to keep in its own cache. `scope` is who asks, so that no agent is given another's answer.
#[must_use]
pub fn cache_key(scope: &str, request: &Request) -> CacheKey {
    // Destructured without `..`: a new field has to be decided upon.
    let Request {
        model,
        system,
        messages,
        tools,
        tool_choice,
        parallel_tools,
        max_output,
        sampling,
        format,
        reasoning,
        stream: _,
        stream_usage: _,
        user: _,
    } = request;
    let mut hash = Hash(Hasher::new());
    hash.text("octant-route cache 1");
    hash.text(scope);
    hash.text(model);
    hash.parts(system);
    hash.count(messages.len());
    for Message { role, parts } in messages {
        hash.tag(match role {
            Role::User => 0,
            Role::Assistant => 1,
            Role::System => 2,
        });
        hash.parts(parts);
    }
    hash.count(tools.len());
    for Tool { name, description, schema, strict } in tools {
        hash.text(name);
        hash.option(description.as_deref(), |hash, text| hash.text(text));
        hash.text(schema.get());
        hash.option(*strict, |hash, strict| hash.tag(u8::from(strict)));
    }
    match tool_choice {
        ToolChoice::Auto => hash.tag(0),
        ToolChoice::None => hash.tag(1),
        ToolChoice::Any => hash.tag(2),
        ToolChoice::Named(name) => {
            hash.tag(3);
            hash.text(name);
        }
    }
    hash.option(*parallel_tools, |hash, parallel| hash.tag(u8::from(parallel)));
    hash.option(*max_output, Hash::number);
    hash.sampling(sampling);
    match format {
        Format::Text => hash.tag(0),
        Format::Json => hash.tag(1),
        Format::Schema { name, schema, strict } => {
            hash.tag(2);
            hash.text(name);
            hash.text(schema.get());
            hash.option(*strict, |hash, strict| hash.tag(u8::from(strict)));
        }
    }
    hash.option(reasoning.as_ref(), |hash, Reasoning { effort, budget, shown }| {
        hash.option(*effort, |hash, effort| hash.tag(effort as u8));
        hash.option(*budget, Hash::number);
        hash.tag(u8::from(*shown));
    });
    CacheKey(Sha256(hash.0.finalize().into()))
}

/// Every text goes in with its length before it and every choice with a tag, so that no two requests are the same bytes.
struct Hash(Hasher);

impl Hash {
    fn tag(&mut self, tag: u8) {
        self.0.update([tag]);
    }

    fn number(&mut self, number: u64) {
        self.0.update(number.to_be_bytes());
    }

    fn count(&mut self, count: usize) {
        self.number(count as u64);
    }

    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.update(text.as_bytes());
    }

    fn option<T>(&mut self, value: Option<T>, f: impl FnOnce(&mut Self, T)) {
        match value {
            None => self.tag(0),
            Some(value) => {
                self.tag(1);
                f(self, value);
            }
        }
    }

    fn sampling(&mut self, sampling: &Sampling) {
        let Sampling { temperature, top_p, top_k, seed, stop, frequency_penalty, presence_penalty } =
            sampling;
        for number in [temperature, top_p, frequency_penalty, presence_penalty] {
            // -0 is 0.
            self.option(*number, |hash, number| hash.number((number + 0.0).to_bits()));
        }
        self.option(*top_k, Self::number);
        self.option(*seed, |hash, seed| hash.number(seed.cast_unsigned()));
        self.count(stop.len());
        for sequence in stop {
            self.text(sequence);
        }
    }

    fn parts(&mut self, parts: &[Part]) {
        let said = || parts.iter().filter(|part| !matches!(part, Part::CacheMark { .. }));
        self.count(said().count());
        for part in said() {
            self.part(part);
        }
    }

    fn part(&mut self, part: &Part) {
        let id = |hash: &mut Self, id: &Option<String>| hash.option(id.as_deref(), Self::text);
        match part {
            // What the provider keeps in its own cache does not change the answer.
            Part::CacheMark { .. } => {}
            Part::Text(text) => {
                self.tag(0);
                self.text(text);
            }
            Part::Image(Image::Url(url)) => {
                self.tag(1);
                self.text(url);
            }
            Part::Image(Image::Bytes { media_type, base64 }) => {
                self.tag(2);
                self.text(media_type);
                self.text(base64);
            }
            Part::Reasoning { id: own, text, signature } => {
                self.tag(3);
                id(self, own);
                self.text(text);
                id(self, signature);
            }
            Part::Sealed { id: own, data } => {
                self.tag(4);
                id(self, own);
                self.text(data);
            }
            Part::Refusal(text) => {
                self.tag(5);
                self.text(text);
            }
            Part::ToolCall { id: own, name, arguments } => {
                self.tag(6);
                self.text(own);
                self.text(name);
                self.text(arguments);
            }
            Part::ToolResult { id: own, parts, failed } => {
                self.tag(7);
                self.text(own);
                self.parts(parts);
                self.tag(u8::from(*failed));
            }
        }
    }
}

/// How much is kept, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheLimits {
    /// Bytes of answers in all.
    pub bytes: usize,
    /// Answers.
    pub entries: usize,
    /// For how many milliseconds one is given again.
    pub ttl_ms: u64,
}

#[derive(Debug)]
struct Kept<V> {
    value: V,
    bytes: usize,
    until_ms: u64,
    used: u64,
}

/// The answers that are kept. Who was not asked for longest goes first.
#[derive(Debug)]
pub struct Cache<V> {
    limits: CacheLimits,
    kept: HashMap<CacheKey, Kept<V>>,
    /// By when they were used last.
    order: BTreeMap<u64, CacheKey>,
    bytes: usize,
    uses: u64,
}

impl<V> Cache<V> {
    /// Nothing yet.
    #[must_use]
    pub fn new(limits: CacheLimits) -> Self {
        Self { limits, kept: HashMap::new(), order: BTreeMap::new(), bytes: 0, uses: 0 }
    }

    /// The answer, if it is kept and not too old.
    pub fn get(&mut self, key: &CacheKey, now_ms: u64) -> Option<&V> {
        if self.kept.get(key)?.until_ms <= now_ms {
            self.remove(key);
            return None;
        }
        self.uses += 1;
        let kept = self.kept.get_mut(key)?;
        self.order.remove(&kept.used);
        kept.used = self.uses;
        self.order.insert(self.uses, *key);
        Some(&kept.value)
    }

    /// Keeps an answer of so many bytes. One that is larger than an eighth of all is not kept, so that no one answer takes the place of all.
    pub fn put(&mut self, key: CacheKey, value: V, bytes: usize, now_ms: u64) {
        self.remove(&key);
        if bytes > self.limits.bytes / 8 || self.limits.entries == 0 {
            return;
        }
        while self.bytes + bytes > self.limits.bytes || self.kept.len() >= self.limits.entries {
            let Some(oldest) = self.order.first_key_value().map(|(_, key)| *key) else { break };
            self.remove(&oldest);
        }
        self.uses += 1;
        self.bytes += bytes;
        self.order.insert(self.uses, key);
        let until_ms = now_ms.saturating_add(self.limits.ttl_ms);
        self.kept.insert(key, Kept { value, bytes, until_ms, used: self.uses });
    }

    fn remove(&mut self, key: &CacheKey) {
        if let Some(kept) = self.kept.remove(key) {
            self.order.remove(&kept.used);
            self.bytes -= kept.bytes;
        }
    }

    /// Forgets everything: what a name stands for may have changed.
    pub fn clear(&mut self) {
        self.kept.clear();
        self.order.clear();
        self.bytes = 0;
    }

    /// How many answers are kept, and how many bytes they have.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.kept.len(), self.bytes)
    }
}
