//! What is known of models and providers: two files that are compiled in, each with the date up to which it is known.

use crate::ability::{Abilities, Ability};
use crate::error::{Faults, Text};
use crate::price::{Rates, price};
use crate::provider::{Auth, Provider};
use octant_llm::{Dialect, Usage};
use octant_manifest::{NamePattern, unix_ms};
use serde::Deserialize;
use std::sync::OnceLock;
use toml::Spanned;

const PROVIDERS: &str = include_str!("../data/providers.toml");
const MODELS: &str = include_str!("../data/models.toml");

/// The dearest that a million tokens can plausibly be, in millionths of a US dollar: 1,000 dollars.
const PRICE_MOST: u64 = 1_000_000_000;
/// The longest window that is plausible.
const WINDOW_MOST: u64 = 20_000_000;

/// What is known of a model. What is absent is not known.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// How many tokens prompt and answer have room for together.
    pub window: Option<u64>,
    /// The most tokens of an answer.
    pub max_output: Option<u64>,
    /// What it can do.
    pub can: Option<Abilities>,
    /// What it costs.
    pub price: Option<Rates>,
    /// Above how many tokens of the prompt the whole call costs more.
    pub long: Option<Long>,
}

/// What a call costs whose prompt is long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Long {
    /// Above how many tokens.
    pub above: u64,
    /// What it costs then.
    pub price: Rates,
}

impl Known {
    /// What a call costs whose prompt has so many tokens.
    #[must_use]
    pub fn rates(&self, input: u64) -> Option<Rates> {
        self.long.filter(|long| input > long.above).map(|long| long.price).or(self.price)
    }

    /// What a call costs that used so much, in millionths of a dollar.
    #[must_use]
    pub fn price(&self, usage: Usage) -> Option<u64> {
        // Whether a prompt was long is seen by what was used: before, there was only a bound.
        self.rates(usage.input).map(|rates| price(&rates, usage))
    }

    /// What it can do. Where nobody has said it, it answers, in pieces too, and nothing else.
    #[must_use]
    pub fn abilities(&self) -> Abilities {
        let said = self.can.unwrap_or(Abilities::default().with(Ability::Streaming));
        // Whoever says nothing of vectors means a model that answers.
        said.with_if(Ability::Answers, !said.has(Ability::Embeddings))
    }

    /// The same, with what another knows in place of what this does not.
    pub(crate) fn or(self, other: &Self) -> Self {
        Self {
            window: self.window.or(other.window),
            max_output: self.max_output.or(other.max_output),
            can: self.can.or(other.can),
            // A long prompt's price belongs to the price that it is beside.
            long: if self.price.is_some() { self.long } else { self.long.or(other.long) },
            price: self.price.or(other.price),
        }
    }
}

/// A model, or some whose names begin alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// Its name: the provider's, a slash, and as the provider names it; the longest that matches counts.
    pub name: NamePattern,
    /// What is known of it.
    pub known: Known,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProvidersFile {
    known: Spanned<String>,
    provider: Vec<Spanned<Provider>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelsFile {
    known: Spanned<String>,
    model: Vec<ModelEntry>,
}

/// A model as files have it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelEntry {
    name: Spanned<String>,
    window: Option<u64>,
    max_output: Option<u64>,
    can: Option<Abilities>,
    price: Option<Rates>,
    long: Option<Long>,
}

impl ModelEntry {
    /// Checks it.
    pub(crate) fn check(self, text: &mut Text<'_>) -> Option<Model> {
        let at = self.name.span().start;
        let Self { name, window, max_output, can, price, long } = self;
        let known = Known { window, max_output, can, price, long };
        for why in implausible(&known) {
            text.wrong(at, "model", format!("{}: {why}", name.get_ref()));
        }
        match name.get_ref().parse() {
            Ok(name) => Some(Model { name, known }),
            Err(error) => {
                text.wrong(at, "model.name", format!("{error}"));
                None
            }
        }
    }
}

/// What cannot be right about a model.
pub(crate) fn implausible(known: &Known) -> Vec<String> {
    let mut out = Vec::new();
    if known.window.is_some_and(|window| !(256..=WINDOW_MOST).contains(&window)) {
        out.push(format!("a window has 256 to {WINDOW_MOST} tokens"));
    }
    if let (Some(window), Some(most)) = (known.window, known.max_output)
        && most > window
    {
        out.push("max_output is more than the window".to_owned());
    }
    let embeds = known.can.is_some_and(|can| can.has(Ability::Embeddings));
    for price in known.price.iter().chain(known.long.iter().map(|long| &long.price)) {
        let all = [Some(price.input), price.cache_read, price.cache_write, Some(price.output)];
        if all.iter().flatten().any(|rate| *rate > PRICE_MOST) {
            out.push(format!("a price is above {PRICE_MOST} millionths of a dollar for a million tokens"));
        }
        if price.cache_read.is_some_and(|read| read > price.input) {
            out.push("reading from the cache costs more than not doing so".to_owned());
        }
        if price.cache_write.is_some_and(|write| write > price.input.saturating_mul(2)) {
            out.push("writing to the cache costs more than twice the prompt".to_owned());
        }
        if !embeds && price.output < price.input {
            out.push("the answer costs less than the prompt".to_owned());
        }
    }
    match (known.price, known.long) {
        (None, Some(_)) => out.push("long without price".to_owned()),
        (Some(price), Some(long)) if long.price.input < price.input || long.price.output < price.output => {
            out.push("a long prompt costs less than a short one".to_owned());
        }
        _ => {}
    }
    out
}

/// What is compiled in.
#[derive(Debug, Clone)]
pub(crate) struct Data {
    pub(crate) providers: Vec<Provider>,
    pub(crate) models: Vec<Model>,
    /// Up to when each is known, `2026-01-31`.
    pub(crate) dates: [String; 2],
}

/// Reads what is compiled in, the first time that somebody asks.
pub(crate) fn read() -> Result<Data, Faults> {
    static READ: OnceLock<Result<Data, Faults>> = OnceLock::new();
    READ.get_or_init(|| read_texts(PROVIDERS, MODELS, u64::MAX)).clone()
}

/// Checks what is compiled in: order, duplicates, plausible prices, dates that are not to come.
///
/// # Errors
/// Everything that is wrong.
pub fn check_data(unix_now_ms: u64) -> Result<(), Faults> {
    read_texts(PROVIDERS, MODELS, unix_now_ms).map(drop)
}

fn read_texts(providers: &str, models: &str, now_ms: u64) -> Result<Data, Faults> {
    let mut text = Text::new("providers.toml", providers);
    let file: ProvidersFile = text.read()?;
    let first = date(&mut text, &file.known, now_ms);
    let mut last = String::new();
    for entry in &file.provider {
        let (at, provider) = (entry.span().start, entry.get_ref());
        if provider.name <= last {
            text.wrong(at, "provider.name", format!("{} does not come behind {last}", provider.name));
        }
        last.clone_from(&provider.name);
        for (field, why) in provider_faults(provider) {
            text.wrong(at, field, format!("{}: {why}", provider.name));
        }
    }
    let providers = text.done(file.provider.into_iter().map(Spanned::into_inner).collect())?;

    let mut text = Text::new("models.toml", models);
    let file: ModelsFile = text.read()?;
    let second = date(&mut text, &file.known, now_ms);
    let mut last = String::new();
    let mut models = Vec::new();
    for entry in file.model {
        let (at, name) = (entry.name.span().start, entry.name.get_ref().clone());
        if name <= last {
            text.wrong(at, "model.name", format!("{name} does not come behind {last}"));
        }
        models.extend(entry.check(&mut text));
        last = name;
    }
    text.done(Data { providers, models, dates: [first, second] })
}

fn date(text: &mut Text<'_>, known: &Spanned<String>, now_ms: u64) -> String {
    let at = known.span().start;
    match unix_ms(&format!("{}T00:00:00Z", known.get_ref())) {
        None => text.wrong(at, "known", "write a date, as 2026-01-31".to_owned()),
        Some(ms) if ms > now_ms => text.wrong(at, "known", "this date is to come".to_owned()),
        Some(_) => {}
    }
    known.get_ref().clone()
}

/// What is wrong with a provider, by field.
pub(crate) fn provider_faults(provider: &Provider) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    let name = &provider.name;
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(legal) {
        out.push(("provider.name", "a name has 1 to 64 of a-z, 0-9, -, _ and .".to_owned()));
    }
    if let Err(why) = base(&provider.base, provider.plain) {
        out.push(("provider.base", why));
    }
    if provider.local && !at_home(&provider.base) {
        out.push(("provider.local", "only a Unix socket or a loopback address is this machine".to_owned()));
    }
    let bedrock = provider.dialect == Dialect::Bedrock;
    if provider.auth == Auth::SigV4 && !bedrock {
        out.push(("provider.auth", "only of the dialect bedrock requests are signed with sigv4".to_owned()));
    }
    if bedrock && !matches!(provider.auth, Auth::SigV4 | Auth::Bearer) {
        out.push((
            "provider.auth",
            "the dialect bedrock wants sigv4, or bearer for a key of its own".to_owned(),
        ));
    }
    let header = |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let value = |value: &str| value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if !provider.headers.iter().all(|(n, v)| !n.is_empty() && header(n) && value(v)) {
        out.push(("provider.headers", "names in lower case, values of printable ASCII".to_owned()));
    }
    out
}

/// What follows the scheme up to the path, without a port.
fn host(base: &str) -> Option<&str> {
    let rest = base.strip_prefix("http://").or_else(|| base.strip_prefix("https://"))?;
    let authority = rest.split('/').next()?;
    match authority.strip_prefix('[') {
        Some(six) => six.split(']').next(),
        None => authority.split(':').next(),
    }
}

/// Whether nothing that is sent there leaves this machine.
fn at_home(base: &str) -> bool {
    let ip = host(base).and_then(|host| host.parse::<std::net::IpAddr>().ok());
    base.starts_with("unix:/") || ip.is_some_and(|ip| ip.is_loopback())
}

fn base(base: &str, plain: bool) -> Result<(), String> {
    if base.strip_prefix("unix:").is_some_and(|path| path.starts_with('/') && !path.contains("..")) {
        return Ok(());
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || "-._~:/[]{}".contains(c);
    if host(base).is_none_or(str::is_empty) || !base.chars().all(legal) || base.ends_with('/') {
        return Err("write https://HOST[:PORT][/PATH] without a / at the end, or unix:/PATH".to_owned());
    }
    if base.starts_with("http://") && !at_home(base) && !plain {
        return Err(
            "keys and prompts would cross the network unencrypted: write https, or plain = true".to_owned()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compiled_in_is_in_order_and_plausible() {
        // The first of 2100: the dates are checked against the machine's clock by `octant router check-data`.
        check_data(4_102_444_800_000).unwrap_or_else(|faults| panic!("{faults}"));
        let data = read().unwrap();
        let compatible = |p: &&Provider| p.dialect == Dialect::Chat && !p.local;
        assert!(data.providers.iter().filter(compatible).count() >= 20);
        assert!(data.providers.iter().all(|provider| !provider.tried), "none was tried");
        let all = [
            Dialect::Chat,
            Dialect::Responses,
            Dialect::Anthropic,
            Dialect::OllamaChat,
            Dialect::Gemini,
            Dialect::Bedrock,
        ];
        assert!(all.iter().all(|dialect| data.providers.iter().any(|provider| provider.dialect == *dialect)));
        assert!(data.models.len() >= 40, "{}", data.models.len());
        for model in &data.models {
            let provider = model.name.to_string();
            let provider = provider.split('/').next().unwrap_or_default().to_owned();
            assert!(data.providers.iter().any(|known| known.name == provider), "{}", model.name);
        }
        assert!(check_data(0).is_err(), "a date that is to come");
    }

    #[test]
    fn a_long_prompt_is_seen_by_what_was_used() {
        let rates = |input, output| Rates { input, cache_read: None, cache_write: None, output };
        let long = Some(Long { above: 1_000_000, price: rates(2, 6) });
        let known = Known { price: Some(rates(1, 3)), long, ..Known::default() };
        let used = |input| known.price(Usage { input, output: 1_000_000, ..Usage::default() });
        assert_eq!((used(1_000_000), used(1_000_001)), (Some(1 + 3), Some(3 + 6)));
        assert_eq!(Known::default().price(Usage::default()), None);
    }

    const ONE: &str = "known = \"2026-01-31\"\nprovider = []\n";

    fn wrong(models: &str) -> String {
        read_texts(ONE, models, u64::MAX).map(drop).unwrap_err().to_string()
    }

    #[test]
    fn each_mistake_is_named_with_its_line() {
        let model = |name: &str, rest: &str| format!("[[model]]\nname = \"{name}\"\n{rest}\n");
        let file = |models: &str| format!("known = \"2026-01-31\"\n{models}");
        let said = wrong(&file(&(model("b/x", "") + &model("a/x", ""))));
        assert_eq!(said, "models.toml line 6: model.name: a/x does not come behind b/x");
        assert!(wrong(&file(&(model("b/x", "") + &model("b/x", "")))).contains("line 6"));
        for (rest, why) in [
            ("price = { input = 2, output = 1 }", "costs less than the prompt"),
            ("price = { input = 2, cache_read = 3, output = 5 }", "reading from the cache"),
            ("price = { input = 2, cache_write = 5, output = 5 }", "writing to the cache"),
            ("price = { input = 2, output = 2000000000 }", "a price is above"),
            ("window = 1000\nmax_output = 1001", "max_output is more"),
            ("window = 1", "a window has"),
            ("long = { above = 5, price = { input = 2, output = 3 } }", "long without price"),
        ] {
            let said = wrong(&file(&model("a/x", rest)));
            assert!(said.contains("line 3: model: a/x: ") && said.contains(why), "{said}");
        }
        let said = wrong(&file(&model("a/x", "windows = 5")));
        assert!(said.contains("line 4: model.windows: ") && said.contains("unknown field"), "{said}");
        assert!(wrong(&file(&model("a/x", "window = \"5\""))).contains("line 4: model.window: "));
        assert!(wrong("known = \"soon\"\nmodel = []").contains("line 1: known: write a date"));
    }

    #[test]
    fn keys_do_not_cross_a_network_in_the_clear_unless_the_operator_says_so() {
        for good in [
            "https://a.example",
            "https://a.example:8443/v1",
            "http://127.0.0.1:1/v1",
            "http://[::1]:80",
            "unix:/run/x",
        ] {
            assert_eq!(base(good, false), Ok(()), "{good}");
        }
        for bad in [
            "http://10.0.0.1",
            "http://localhost",
            "https://",
            "https://a/",
            "ftp://a",
            "unix:x",
            "https://a@b",
            "https://a?b",
        ] {
            assert!(base(bad, false).is_err(), "{bad}");
        }
        assert_eq!(base("http://10.0.0.1", true), Ok(()));
        assert!(base("http://a b", true).is_err());
        assert!(!at_home("http://10.0.0.1") && !at_home("https://127.0.0.1.example"));
    }
}
