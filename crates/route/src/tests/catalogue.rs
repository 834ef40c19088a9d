//! The operator's file: all that it can say, and all that can be wrong with it.

use super::{lab, read};
use crate::{Auth, Catalogue, Class, Strategy as Order};
use octant_llm::Dialect;
use proptest::prelude::*;

const FILE: &str = r#"
strategy = "cost"

[retry]
tries = 2
deadline_ms = 60000

[cache]
bytes = 1048576
entries = 100
ttl_ms = 60000

[aliases]
"gpt-4o" = "fast"
best = "smart"

[[provider]]
name = "lab"
base = "http://10.0.0.5:8000/v1"
plain = true
dialect = "chat"
auth = "bearer"

[[model]]
name = "lab/*"
window = 32768
can = ["tools", "streaming"]

[[deployment]]
name = "haiku"
provider = "anthropic"
model = "claude-haiku-4-5-20251001"
key = "llm/anthropic"
weight = 3
retention = "none"

[[deployment]]
name = "mini"
provider = "azure"
model = "our-mini"
like = "openai/gpt-4o-mini"
key = "llm/azure"
values = { resource = "ours", api_version = "2024-10-21" }
rpm = 60
tpm = 100000
at_once = 4

[[deployment]]
name = "opus"
provider = "bedrock"
model = "anthropic.claude-opus-4-7"
key = "llm/aws"
values = { region = "eu-central-1" }

[[deployment]]
name = "own"
provider = "lab"
model = "qwen"
key = "llm/lab"
price = { input = 1, output = 2 }

[[deployment]]
name = "here"
provider = "ollama"
model = "llama3.2:3b"

[[deployment]]
name = "nova"
provider = "bedrock-bearer"
model = "eu.amazon.nova-pro-v1:0"
like = "bedrock/amazon.nova-pro-v1:0"
key = "llm/bedrock"
values = { region = "eu-central-1" }

[[group]]
name = "fast"
deployments = ["haiku", "mini"]
fallbacks = ["home"]

[[group]]
name = "smart"
deployments = ["opus"]
strategy = "latency"
fallbacks = ["fast"]

[[group]]
name = "home"
deployments = ["here", "own"]
fallbacks = ["fast"]

[[group]]
name = "auto"
strategy = "complexity"
simple = "home"
medium = "fast"
hard = "smart"
"#;

#[test]
fn a_whole_file_is_read() {
    let all = read(FILE);
    let by_name = |name: &str| all.deployments.iter().find(|deployment| deployment.name == name).unwrap();
    let haiku = by_name("haiku");
    assert_eq!(haiku.full, "anthropic/claude-haiku-4-5-20251001");
    assert_eq!(haiku.known.window, Some(200_000), "a date behind a name is the same model");
    assert_eq!((haiku.base(), haiku.path(true)), ("https://api.anthropic.com", "/v1/messages".to_owned()));
    assert!(haiku.keeps_nothing && haiku.weight == 3);
    let mini = by_name("mini");
    assert_eq!(mini.base(), "https://ours.openai.azure.com/openai/deployments/our-mini");
    assert_eq!(mini.path(true), "/chat/completions?api-version=2024-10-21");
    assert_eq!(mini.known.price.unwrap().input, 150_000, "it is like the one that it is like");
    assert_eq!((mini.limits.rpm, mini.limits.tpm, mini.limits.at_once), (Some(60), Some(100_000), Some(4)));
    assert!(!mini.keeps_nothing, "nobody has said so");
    let opus = by_name("opus");
    assert_eq!(opus.base(), "https://bedrock-runtime.eu-central-1.amazonaws.com");
    assert_eq!((opus.region.as_deref(), &mini.region), (Some("eu-central-1"), &None));
    assert_eq!(
        (opus.provider.dialect, &opus.known.window),
        (Dialect::Bedrock, &None),
        "not in the table: not known"
    );
    let nova = by_name("nova");
    assert_eq!((nova.base(), &nova.provider.auth), (opus.base(), &Auth::Bearer));
    assert!(
        nova.region.is_none() && nova.known.price.is_some(),
        "it is like the one whose requests are signed"
    );
    let own = by_name("own");
    assert_eq!(
        (own.known.window, own.rates(5).unwrap().output),
        (Some(32_768), 2),
        "its own and its model's"
    );
    let here = by_name("here");
    assert!(
        here.keeps_nothing && here.provider.local && here.rates(5).is_some_and(|rates| rates.output == 0)
    );
    assert_eq!((all.retries.tries, all.cache.unwrap().entries), (2, 100));
    let names = all.names();
    assert!(names.is_sorted() && names.len() == 12, "{names:?}");
    assert!(["fast", "gpt-4o", "lab/qwen"].iter().all(|name| names.contains(name)), "{names:?}");
}

#[test]
fn the_way_goes_through_each_group_once() {
    let all = read(FILE);
    let way =
        |asked: &str, class| all.way(asked, class).into_iter().map(|step| step.group).collect::<Vec<_>>();
    assert_eq!(way("gpt-4o", Class::Hard), ["fast", "home"]);
    assert_eq!(way("smart", Class::Hard), ["smart", "fast", "home"]);
    assert_eq!(way("auto", Class::Simple), ["home", "fast", "smart"], "and upwards where nobody simple can");
    assert_eq!(way("auto", Class::Hard), ["smart", "fast", "home"]);
    for name in ["lab/qwen", "qwen", "own"] {
        let steps = all.way(name, Class::Simple);
        assert_eq!(steps.len(), 1, "{name}");
        assert_eq!((steps[0].deployments.as_slice(), steps[0].strategy), ([3].as_slice(), Order::Cost));
    }
    assert!(all.way("nothing", Class::Simple).is_empty());
}

fn wrong(text: &str) -> Vec<String> {
    let faults = Catalogue::read(text).unwrap_err();
    faults.faults.iter().map(ToString::to_string).collect()
}

/// What stands in a file, and what is said of it.
const MISTAKES: &[(&str, &str)] = &[
    ("strategy = \"best\"", "line 1: strategy: unknown variant `best`"),
    ("strategy = \"complexity\"", "line 1: strategy: complexity is a group's own"),
    ("stratgy = \"cost\"", "line 1: stratgy: unknown field `stratgy`"),
    ("[retry]\ntries = 0", "line 2: retry.tries: 0 is not between 1 and 10"),
    ("[cache]\nbytes = 1\nentries = 1\nttl_ms = 1000", "line 2: cache.bytes: 1 is not between"),
    ("[aliases]\nx = \"none\"", "line 2: aliases: \"none\" is neither a group nor a model"),
    (
        "[[deployment]]\nname = \"a\"\nprovider = \"none\"\nmodel = \"m\"",
        "line 3: deployment.provider: no provider is named",
    ),
    (
        "[[deployment]]\nname = \"a\"\nprovider = \"openai\"\nmodel = \"m\"",
        "line 3: deployment.key: openai wants a key",
    ),
    (
        "[[deployment]]\nname = \"a\"\nprovider = \"openai\"\nmodel = \"m\"\nkey = \"../x\"",
        "line 5: deployment.key: ",
    ),
    (
        "[[deployment]]\nname = \"a\"\nprovider = \"ollama\"\nmodel = \"m\"\nkey = \"x\"",
        "line 5: deployment.key: ollama takes no key",
    ),
    ("[[deployment]]\nname = \"a b\"\nprovider = \"ollama\"\nmodel = \"m\"", "line 2: deployment.name: "),
    (
        "[[deployment]]\nname = \"a*\"\nprovider = \"ollama\"\nmodel = \"m\"",
        "line 2: deployment.name: \"a*\" stands for more",
    ),
    (
        "[[deployment]]\nname = \"a\"\nprovider = \"ollama\"\nmodel = \"m\"\nlike = \"x/y\"",
        "line 5: deployment.like: nothing is known",
    ),
    (
        "[[deployment]]\nname = \"a\"\nprovider = \"ollama\"\nmodel = \"m\"\nweight = 0",
        "line 5: deployment.weight: 0 is not",
    ),
    (
        "[[deployment]]\nname = \"a\"\nprovider = \"ollama\"\nmodel = \"m\"\nvalues = { x = \"y\" }",
        "line 5: deployment.values: ollama has no {x}",
    ),
    (
        "[[deployment]]\nname = \"a\"\nprovider = \"bedrock\"\nmodel = \"m\"\nkey = \"k\"",
        "line 3: deployment.values: bedrock needs values = { region",
    ),
    (
        // Signed for a region though its address names none.
        "[[provider]]\nname = \"b\"\nbase = \"https://b.example/\"\ndialect = \"bedrock\"\nauth = \"sigv4\"\n[[deployment]]\nname = \"a\"\nprovider = \"b\"\nmodel = \"m\"\nkey = \"k\"",
        "line 8: deployment.values: b needs values = { region",
    ),
    (
        "[[provider]]\nname = \"b\"\nbase = \"https://b.example/\"\ndialect = \"bedrock\"\nauth = \"header:x-key\"",
        "line 1: provider.auth: the dialect bedrock wants sigv4, or bearer",
    ),
    (
        "[[provider]]\nname = \"b\"\nbase = \"https://b.example/\"\ndialect = \"chat\"\nauth = \"sigv4\"",
        "line 1: provider.auth: only of the dialect bedrock",
    ),
    (
        "[[deployment]]\nname = \"a\"\nprovider = \"bedrock\"\nmodel = \"m\"\nkey = \"k\"\nvalues = { region = \"x.evil.example/\" }",
        "line 6: deployment.values: letters, digits",
    ),
    ("[[group]]\nname = \"x\"", "line 2: group: deployments are needed"),
    (
        "[[group]]\nname = \"x\"\ndeployments = [\"none\"]",
        "line 3: group.deployments: no deployment is named",
    ),
    (
        "[[group]]\nname = \"x\"\nstrategy = \"complexity\"\nsimple = \"x\"",
        "line 4: group.simple: \"x\" is not another group",
    ),
    (
        "[[group]]\nname = \"x\"\nstrategy = \"complexity\"\nsimple = \"y\"\nmedium = \"y\"",
        "line 2: group: strategy complexity needs",
    ),
    (
        "[[provider]]\nname = \"P\"\nbase = \"https://a\"\ndialect = \"chat\"\nauth = \"none\"",
        "line 1: provider.name: ",
    ),
    (
        "[[provider]]\nname = \"p\"\nbase = \"http://a\"\ndialect = \"chat\"\nauth = \"none\"",
        "line 1: provider.base: keys and prompts",
    ),
    (
        "[[provider]]\nname = \"p\"\nbase = \"https://a\"\ndialect = \"chat\"\nauth = \"none\"\nlocal = true",
        "line 1: provider.local: ",
    ),
    (
        "[[provider]]\nname = \"p\"\nbase = \"https://a\"\ndialect = \"latin\"\nauth = \"none\"",
        "line 4: provider.dialect: ",
    ),
    (
        "[[provider]]\nname = \"p\"\nbase = \"https://a\"\ndialect = \"chat\"\nauth = \"basic\"",
        "line 5: provider.auth: ",
    ),
];

#[test]
fn every_mistake_has_its_line_and_field() {
    let base = lab(2, "");
    for (text, said) in MISTAKES {
        let found = wrong(text);
        assert!(found.iter().any(|fault| fault.starts_with(said)), "{text}\n{found:#?}\n{said}");
    }
    let found = wrong(&(base + "[[group]]\nname = \"d0\"\ndeployments = [\"d1\", \"d1\"]\n"));
    assert!(
        found[0].contains("already the name") && found[1].contains("stands twice"),
        "all of them: {found:?}"
    );
    assert!(wrong(&"#".repeat(300_000))[0].contains("it has more than 262144 bytes"));
    assert!(read("").deployments.is_empty(), "an empty file is one");
}

#[test]
fn the_example_in_the_documents_is_one() {
    let text = include_str!("../../../../docs/router.md");
    let (_, rest) = text.split_once("```toml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let all = read(example);
    assert_eq!((all.deployments.len(), all.groups.len()), (3, 3));
    assert_eq!(all.deployments[1].known.window, Some(200_000));
    assert!(all.listen.is_some_and(|listen| !listen.public()));
    assert_eq!((all.keys.day.tokens, all.operators.day.microusd), (5_000_000, 20_000_000));
}

proptest! {
    #[test]
    fn no_file_breaks_it(cut in 0..FILE.len(), length in 0_usize..80, put in "[a-z0-9\\[\\]{}=\", .*\n]{0,30}") {
        let (cut, end) = (FILE.floor_char_boundary(cut), FILE.floor_char_boundary((cut + length).min(FILE.len())));
        let text = format!("{}{put}{}", &FILE[..cut], &FILE[end.max(cut)..]);
        match Catalogue::read(&text) {
            Ok(all) => prop_assert!(all.deployments.len() <= 10),
            Err(faults) => {
                prop_assert!(!faults.faults.is_empty());
                let lines = text.lines().count() + 1;
                prop_assert!(faults.faults.iter().all(|fault| fault.line <= lines && !fault.why.is_empty()));
            }
        }
    }
}
