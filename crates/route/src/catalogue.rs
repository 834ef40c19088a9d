//! Everything that may be asked: what is known, with the operator's file over it.

use crate::budget::Limits;
use crate::cache::CacheLimits;
use crate::choose::Strategy;
use crate::complexity::Class;
use crate::config::{DeploymentEntry, File, GroupEntry, Listen, Retention};
use crate::data::{self, Known, Model, provider_faults};
use crate::error::{Faults, Text};
use crate::price::Rates;
use crate::provider::{self, Auth, Provider, fill, holes};
use crate::retry::Retries;
use octant_ids::SecretName;
use octant_llm::Dialect;
use octant_manifest::NamePattern;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use toml::Spanned;

/// How many bytes the operator's file may have.
pub(crate) const FILE_BYTES: usize = 256 << 10;
/// How many deployments, groups and aliases there may be of each.
const ENTRIES: usize = 512;

/// A model of a provider, with a key, as the operator has set it up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// Its name here.
    pub name: String,
    /// Who offers it.
    pub provider: Arc<Provider>,
    /// The model, as the provider names it.
    pub model: String,
    /// `PROVIDER/MODEL`: the name that manifests allow.
    pub full: String,
    /// Where its key is in the vault; none where none is needed.
    pub key: Option<SecretName>,
    /// Which region its requests are signed for, where they are signed.
    pub region: Option<String>,
    /// How often it is taken among others of its group.
    pub weight: u32,
    /// The provider's limits of requests and of tokens in a minute, and of calls at a time, where the operator knows them.
    pub limits: Pace,
    /// Whether nothing of prompts and answers is kept: by contract, or because it is this machine.
    pub keeps_nothing: bool,
    /// What is known of the model.
    pub known: Known,
    base: String,
    query: Option<String>,
}

/// How fast a deployment may be asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    /// Requests in a minute.
    pub rpm: Option<u64>,
    /// Tokens in a minute.
    pub tpm: Option<u64>,
    /// Calls at a time.
    pub at_once: Option<u32>,
}

impl Deployment {
    /// Where it is: `https://HOST[:PORT][/PATH]`, or `unix:/PATH`.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// What a call costs whose prompt has so many tokens; nothing on this machine, unless the operator says so.
    #[must_use]
    pub fn rates(&self, input: u64) -> Option<Rates> {
        self.known.rates(input).or(self.provider.local.then(Rates::default))
    }

    /// The path and query behind the base at which it answers.
    #[must_use]
    pub fn path(&self, stream: bool) -> String {
        self.with_query(provider::path(self.provider.dialect, &self.model, stream))
    }

    /// The path and query behind the base at which it makes vectors, where it does.
    #[must_use]
    pub fn embeddings_path(&self) -> Option<String> {
        provider::embeddings_path(self.provider.dialect, &self.model).map(|path| self.with_query(path))
    }

    fn with_query(&self, path: String) -> String {
        match &self.query {
            None => path,
            Some(query) => format!("{path}{}{query}", if path.contains('?') { '&' } else { '?' }),
        }
    }
}

/// Deployments among which it does not matter who answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Who is in it: indices of [`Catalogue::deployments`].
    pub deployments: Vec<usize>,
    /// The groups that are asked when nobody in it can answer, in order.
    pub fallbacks: Vec<String>,
    /// In which order its deployments are asked.
    pub strategy: Strategy,
    /// With [`Strategy::Complexity`], the group for requests of each class.
    pub classes: Option<[String; 3]>,
}

/// A part of the way of a request: one group, or what a name of a model stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its name.
    pub group: String,
    /// Who is in it.
    pub deployments: Vec<usize>,
    /// In which order they are asked.
    pub strategy: Strategy,
}

/// Everything that may be asked.
#[derive(Debug, Clone)]
pub struct Catalogue {
    /// Who offers models.
    pub providers: BTreeMap<String, Arc<Provider>>,
    /// What is known of models.
    pub models: Vec<Model>,
    /// What the operator has set up.
    pub deployments: Vec<Deployment>,
    /// In which groups.
    pub groups: BTreeMap<String, Group>,
    /// Other names.
    pub aliases: BTreeMap<String, String>,
    /// How often it is tried again.
    pub retries: Retries,
    /// How much is kept of answers to be given again; none: nothing.
    pub cache: Option<CacheLimits>,
    /// Where programs outside of workstations ask; none: nowhere.
    pub listen: Option<Listen>,
    /// How much all operators may use together.
    pub operators: Limits,
    /// How much all keys may use together.
    pub keys: Limits,
    /// Up to when providers and models are known.
    pub dates: [String; 2],
    strategy: Strategy,
}

impl Catalogue {
    /// What is known, with the operator's file over it. An empty file is one, and nobody can be asked then.
    ///
    /// # Errors
    /// Everything that is wrong with the file; nothing of it is in force then.
    pub fn read(operator: &str) -> Result<Self, Faults> {
        let mut text = Text::new("router.toml", operator);
        if operator.len() > FILE_BYTES {
            text.wrong(0, "the file", format!("it has more than {FILE_BYTES} bytes"));
            return text.done(()).and_then(|()| Self::read(""));
        }
        let data = data::read()?;
        let file: File = text.read()?;
        let providers = data.providers.into_iter().map(|p| (p.name.clone(), Arc::new(p))).collect();
        let mut all = Self {
            providers,
            models: data.models,
            deployments: Vec::new(),
            groups: BTreeMap::new(),
            aliases: BTreeMap::new(),
            retries: Retries::default(),
            cache: None,
            listen: None,
            operators: file.operators.into(),
            keys: file.keys.into(),
            dates: data.dates,
            strategy: file.strategy.unwrap_or_default(),
        };
        all.take(file, &mut text);
        text.done(all)
    }

    fn take(&mut self, file: File, text: &mut Text<'_>) {
        let File { retry, cache, listen, aliases, provider, model, deployment, group, .. } = file;
        self.listen = listen.map(|listen| listen.check(text));
        if self.strategy == Strategy::Complexity {
            text.wrong(0, "strategy", "complexity is a group's own, with simple, medium and hard".to_owned());
        }
        self.settings(retry, cache, text);
        for entry in provider {
            let (at, provider) = (entry.span().start, entry.into_inner());
            for (field, why) in provider_faults(&provider) {
                text.wrong(at, field, why);
            }
            self.providers.insert(provider.name.clone(), Arc::new(provider));
        }
        let own: Vec<Model> = model.into_iter().filter_map(|entry| entry.check(text)).collect();
        self.models.retain(|model| !own.iter().any(|other| other.name == model.name));
        self.models.extend(own);
        for (count, what) in
            [(deployment.len(), "deployment"), (group.len(), "group"), (aliases.len(), "aliases")]
        {
            if count > ENTRIES {
                text.wrong(0, what, format!("there are {count}, and no more than {ENTRIES} can be"));
                return;
            }
        }
        let mut names = BTreeSet::new();
        for entry in deployment {
            self.deployment(entry, &mut names, text);
        }
        let groups: BTreeSet<String> = group.iter().map(|entry| entry.name.get_ref().clone()).collect();
        for entry in group {
            self.group(entry, &groups, &mut names, text);
        }
        for (alias, target) in aliases {
            named(&alias, "aliases", &mut names, text);
            let (at, target) = (target.span().start, target.into_inner());
            if self.members(&target).is_empty() && !groups.contains(&target) {
                text.wrong(
                    at,
                    "aliases",
                    format!("{target:?} is neither a group nor a model of a deployment"),
                );
            }
            self.aliases.insert(alias.into_inner(), target);
        }
    }

    fn settings(
        &mut self,
        retry: Option<crate::config::RetryEntry>,
        cache: Option<crate::config::CacheEntry>,
        text: &mut Text<'_>,
    ) {
        if let Some(retry) = retry {
            if let Some(tries) = retry.tries {
                within(&tries, 1..=10, "retry.tries", text);
                self.retries.tries = tries.into_inner();
            }
            if let Some(deadline) = retry.deadline_ms {
                within(&deadline, 1000..=3_600_000, "retry.deadline_ms", text);
                self.retries.deadline_ms = deadline.into_inner();
            }
        }
        if let Some(cache) = cache {
            within(&cache.bytes, 1 << 16..=1 << 30, "cache.bytes", text);
            within(&cache.entries, 1..=100_000, "cache.entries", text);
            within(&cache.ttl_ms, 1000..=2_592_000_000, "cache.ttl_ms", text);
            self.cache = Some(CacheLimits {
                bytes: usize::try_from(cache.bytes.into_inner()).unwrap_or(usize::MAX),
                entries: usize::try_from(cache.entries.into_inner()).unwrap_or(usize::MAX),
                ttl_ms: cache.ttl_ms.into_inner(),
            });
        }
    }

    fn deployment(&mut self, entry: DeploymentEntry, names: &mut BTreeSet<String>, text: &mut Text<'_>) {
        named(&entry.name, "deployment.name", names, text);
        let at = entry.provider.span().start;
        let Some(provider) = self.providers.get(entry.provider.get_ref()).cloned() else {
            let why =
                format!("no provider is named {:?}: write a [[provider]] for it", entry.provider.get_ref());
            return text.wrong(at, "deployment.provider", why);
        };
        key_fits(&entry, &provider, text);
        let values = values(&entry, &provider, text);
        let called = provider.called.as_ref().unwrap_or(&provider.name);
        let full = format!("{called}/{}", entry.model.get_ref());
        plain_name(&full, entry.model.span().start, "deployment.model", text);
        let model = entry.model.into_inner();
        let known = Known {
            window: entry.window,
            max_output: entry.max_output,
            can: entry.can,
            price: entry.price,
            long: entry.long,
        };
        for why in data::implausible(&known) {
            text.wrong(entry.name.span().start, "deployment", why);
        }
        let like = match &entry.like {
            None => self.known(&full),
            Some(like) => {
                let found = self.known(like.get_ref());
                if found.is_none() {
                    let why = format!("nothing is known of a model {:?}", like.get_ref());
                    text.wrong(like.span().start, "deployment.like", why);
                }
                found
            }
        };
        let mut pace = Pace::default();
        for (field, from, to) in
            [("deployment.rpm", &entry.rpm, &mut pace.rpm), ("deployment.tpm", &entry.tpm, &mut pace.tpm)]
        {
            if let Some(limit) = from {
                within(limit, 1..=1_000_000_000, field, text);
                *to = Some(*limit.get_ref());
            }
        }
        if let Some(limit) = &entry.at_once {
            within(limit, 1..=100_000, "deployment.at_once", text);
            pace.at_once = Some(*limit.get_ref());
        }
        if let Some(weight) = &entry.weight {
            within(weight, 1..=1000, "deployment.weight", text);
        }
        let nothing = Known::default();
        self.deployments.push(Deployment {
            name: entry.name.into_inner(),
            model,
            full,
            key: entry.key.map(Spanned::into_inner),
            region: values.get("region").filter(|_| provider.auth == Auth::SigV4).cloned(),
            weight: entry.weight.map_or(1, Spanned::into_inner),
            limits: pace,
            keeps_nothing: provider.local || entry.retention == Some(Retention::None),
            known: known.or(like.unwrap_or(&nothing)),
            base: fill(&provider.base, &values),
            query: provider.query.as_ref().map(|query| fill(query, &values)),
            provider,
        });
    }

    fn group(
        &mut self,
        entry: GroupEntry,
        groups: &BTreeSet<String>,
        names: &mut BTreeSet<String>,
        text: &mut Text<'_>,
    ) {
        named(&entry.name, "group.name", names, text);
        let at = entry.name.span().start;
        let mut members = Vec::new();
        for name in &entry.deployments {
            match self.deployments.iter().position(|deployment| deployment.name == *name.get_ref()) {
                Some(index) if members.contains(&index) => {
                    text.wrong(
                        name.span().start,
                        "group.deployments",
                        format!("{:?} stands twice", name.get_ref()),
                    );
                }
                Some(index) => members.push(index),
                None => {
                    let why = format!("no deployment is named {:?}", name.get_ref());
                    text.wrong(name.span().start, "group.deployments", why);
                }
            }
        }
        let of_class =
            [("group.simple", &entry.simple), ("group.medium", &entry.medium), ("group.hard", &entry.hard)];
        let others = entry.fallbacks.iter().map(|name| ("group.fallbacks", name));
        for (field, name) in others.chain(of_class.iter().filter_map(|(f, name)| Some((*f, name.as_ref()?))))
        {
            if !groups.contains(name.get_ref()) || name.get_ref() == entry.name.get_ref() {
                let why = format!("{:?} is not another group of this file", name.get_ref());
                text.wrong(name.span().start, field, why);
            }
        }
        let strategy = entry.strategy.unwrap_or(self.strategy);
        let named: Vec<String> =
            of_class.iter().filter_map(|(_, name)| Some(name.as_ref()?.get_ref().clone())).collect();
        let classes = <[String; 3]>::try_from(named.clone()).ok();
        let by_class = strategy == Strategy::Complexity;
        if by_class != classes.is_some() || by_class != members.is_empty() || (!by_class && !named.is_empty())
        {
            let why = if by_class {
                "strategy complexity needs simple, medium and hard, and no deployments of its own"
            } else {
                "deployments are needed, and simple, medium and hard only with strategy complexity"
            };
            text.wrong(at, "group", why.to_owned());
        }
        let name = entry.name.into_inner();
        let fallbacks = entry.fallbacks.into_iter().map(Spanned::into_inner).collect();
        self.groups.insert(name.clone(), Group { name, deployments: members, fallbacks, strategy, classes });
    }

    /// What is known of a model by its full name: by the longest pattern that matches it, or it without a date at its end.
    #[must_use]
    pub fn known(&self, full: &str) -> Option<&Known> {
        let known = |full: &str| {
            let matching = self.models.iter().filter(|model| model.name.matches(full));
            // An exact name is more than the same as the beginning of others.
            matching.max_by_key(|model| (model.name.to_string().len(), !model.name.open()))
        };
        let found = known(full).or_else(|| known(undated(full)?));
        found.map(|model| &model.known)
    }

    /// The deployments that a model's name stands for: their own, `PROVIDER/MODEL`, or the model alone.
    fn members(&self, asked: &str) -> Vec<usize> {
        let is = |own: &Deployment| own.name == asked || own.full == asked || own.model == asked;
        (0..self.deployments.len()).filter(|index| is(&self.deployments[*index])).collect()
    }

    /// The name that an alias stands for.
    #[must_use]
    pub fn unaliased<'a>(&'a self, asked: &'a str) -> &'a str {
        self.aliases.get(asked).map_or(asked, String::as_str)
    }

    /// The way of a request: the group asked for or what the model's name stands for, then its fallbacks, each group once.
    #[must_use]
    pub fn way(&self, asked: &str, class: Class) -> Vec<Step> {
        let asked = self.unaliased(asked);
        let mut way = Vec::new();
        let mut seen = BTreeSet::new();
        if self.groups.contains_key(asked) {
            self.walk(asked, class, &mut seen, &mut way);
        } else {
            let deployments = self.members(asked);
            if !deployments.is_empty() {
                way.push(Step { group: asked.to_owned(), deployments, strategy: self.strategy });
            }
        }
        way
    }

    fn walk<'a>(&'a self, name: &'a str, class: Class, seen: &mut BTreeSet<&'a str>, way: &mut Vec<Step>) {
        let Some(group) = self.groups.get(name).filter(|_| seen.insert(name)) else { return };
        match &group.classes {
            // Who can do what is hard can do what is simple, and not the other way round.
            Some(classes) => {
                for name in &classes[class as usize..] {
                    self.walk(name, class, seen, way);
                }
            }
            None => way.push(Step {
                group: name.to_owned(),
                deployments: group.deployments.clone(),
                strategy: group.strategy,
            }),
        }
        for name in &group.fallbacks {
            self.walk(name, class, seen, way);
        }
    }

    /// Every name that can be asked for, sorted: groups, aliases, and `PROVIDER/MODEL` of the deployments.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let own = self.deployments.iter().map(|deployment| &deployment.full);
        let all = self.groups.keys().chain(self.aliases.keys()).chain(own).map(String::as_str);
        all.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// A model's name without the date of its making: `-20251001` or `-2025-10-01`.
fn undated(full: &str) -> Option<&str> {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (rest, last) = full.rsplit_once('-')?;
    if last.len() == 8 && digits(last) {
        return Some(rest);
    }
    let (rest, month) = rest.rsplit_once('-')?;
    let (rest, year) = rest.rsplit_once('-')?;
    let date = [(year, 4), (month, 2), (last, 2)];
    date.iter().all(|(part, length)| part.len() == *length && digits(part)).then_some(rest)
}

/// A name that a manifest could allow.
fn plain_name(name: &str, at: usize, field: &str, text: &mut Text<'_>) {
    match name.parse::<NamePattern>() {
        Ok(pattern) if !pattern.open() => {}
        Ok(_) => text.wrong(at, field, format!("{name:?} stands for more than one")),
        Err(error) => text.wrong(at, field, error.to_string()),
    }
}

fn named(name: &Spanned<String>, field: &str, names: &mut BTreeSet<String>, text: &mut Text<'_>) {
    plain_name(name.get_ref(), name.span().start, field, text);
    if !names.insert(name.get_ref().clone()) {
        let why = format!("{:?} is already the name of a deployment, a group or an alias", name.get_ref());
        text.wrong(name.span().start, field, why);
    }
}

fn within<T: PartialOrd + std::fmt::Display>(
    value: &Spanned<T>,
    range: std::ops::RangeInclusive<T>,
    field: &str,
    text: &mut Text<'_>,
) {
    if !range.contains(value.get_ref()) {
        let why = format!("{} is not between {} and {}", value.get_ref(), range.start(), range.end());
        text.wrong(value.span().start, field, why);
    }
}

fn key_fits(entry: &DeploymentEntry, provider: &Provider, text: &mut Text<'_>) {
    let at = entry.provider.span().start;
    match (&entry.key, provider.auth == Auth::None) {
        (None, false) => {
            let why = format!(
                "{} wants a key: write key = \"NAME\", the name of a secret in the vault",
                provider.name
            );
            text.wrong(at, "deployment.key", why);
        }
        (Some(key), true) => {
            text.wrong(key.span().start, "deployment.key", format!("{} takes no key", provider.name));
        }
        _ => {}
    }
}

/// The values for what a provider's URL leaves open, and the region where requests are signed for one: all of them, and
/// nothing that could change the host's end.
fn values(entry: &DeploymentEntry, provider: &Provider, text: &mut Text<'_>) -> BTreeMap<String, String> {
    let mut open: BTreeSet<&str> =
        holes(&provider.base).chain(provider.query.as_deref().into_iter().flat_map(holes)).collect();
    open.extend((provider.auth == Auth::SigV4).then_some("region"));
    let mut out = BTreeMap::new();
    for (name, value) in &entry.values {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let (at, value) = (value.span().start, value.get_ref());
        if !open.contains(name.get_ref().as_str()) {
            text.wrong(at, "deployment.values", format!("{} has no {{{}}}", provider.name, name.get_ref()));
        }
        if value.is_empty() || !value.bytes().all(legal) {
            text.wrong(at, "deployment.values", "letters, digits, -, _ and . only".to_owned());
        }
        out.insert(name.get_ref().clone(), value.clone());
    }
    // Azure's models are called by the name of the deployment there.
    if open.contains("model") && provider.dialect == Dialect::Chat {
        if entry.model.get_ref().contains('/') {
            let why = "this provider's models have no / in their names".to_owned();
            text.wrong(entry.model.span().start, "deployment.model", why);
        }
        out.entry("model".to_owned()).or_insert_with(|| entry.model.get_ref().clone());
    }
    for name in open.into_iter().filter(|name| !out.contains_key(*name)) {
        let why = format!("{} needs values = {{ {name} = \"...\" }}", provider.name);
        text.wrong(entry.provider.span().start, "deployment.values", why);
    }
    out
}
