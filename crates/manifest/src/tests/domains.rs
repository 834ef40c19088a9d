//! The domains that other services enforce: what is read, what it means, and that nothing is spawned from it.

use super::{ceiling, declared, one, root, with};
use crate::{
    CredentialGrant, Draft, Effective, HostGrant, HostPattern, NamePattern, Pattern, PatternSet, Problem,
    RightsError,
};

fn host(text: &str) -> HostPattern {
    text.parse().unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn what_this_build_cannot_enforce_is_valid_and_is_not_spawned() {
    let cases = [
        ("grants = []", "grants = [\"sign prod/key\"]", "credentials.grants", "octant vault grant"),
        ("[skills]\nallowed = []", "[skills]\nallowed = [\"x\"]", "skills.allowed", "skill runtime"),
    ];
    for (from, to, field, why) in cases {
        let text = with(from, to);
        let draft = Draft::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{to}: {e}"));
        let named: Vec<&str> = draft.manifest().unenforceable().iter().map(|u| u.field).collect();
        assert_eq!(named, [field]);
        let error = Effective::root(&declared(&text, "admin").unwrap(), &ceiling()).map_err(one).unwrap_err();
        assert!(matches!(error, RightsError::Unenforceable(_)), "{error}");
        let text = error.to_string();
        assert!(text.contains(field) && text.contains(why) && text.contains("remove"), "{text}");
    }
}

#[test]
fn a_host_has_one_normal_form() {
    for (written, normal) in [
        ("Example.ORG", "example.org"),
        ("example.org.", "example.org"),
        ("*.Example.org.", "*.example.org"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("1.2.3.4.example", "1.2.3.4.example"),
    ] {
        assert_eq!(host(written).to_string(), normal);
    }
    let long = format!("{}.org", "a".repeat(64));
    let longer = format!("{}org", "abc.".repeat(64));
    for bad in [
        "",
        ".",
        "*",
        "*.",
        "org",
        "*.org",
        "localhost",
        "*.*.org",
        "a.*.org",
        "a*.example.org",
        "exa mple.org",
        "example..org",
        ".example.org",
        "-a.org",
        "a-.org",
        "bücher.example",
        "1.2.3.4",
        "127.1",
        "0x7f.0x1",
        "[::1]",
        "::1",
        "example.org/x",
        "user@example.org",
        "example.org\0.com",
        "example.org..",
        "a_b.org",
        &long,
        &longer,
    ] {
        assert!(bad.parse::<HostPattern>().is_err(), "{bad:?}");
    }
}

#[test]
fn what_is_below_a_name_is_neither_the_name_nor_beside_it() {
    let below = host("*.example.org");
    for inside in ["a.example.org", "a.b.example.org", "*.a.example.org"] {
        assert!(host(inside).within(&below), "{inside}");
    }
    for outside in ["example.org", "notexample.org", "a.notexample.org", "example.org.evil.com", "*.org.uk"] {
        assert!(!host(outside).within(&below), "{outside}");
        assert_eq!(host(outside).meet(&below), None, "{outside}");
    }
    assert!(
        below.matches(&"a.example.org".parse().unwrap()) && !below.matches(&"example.org".parse().unwrap())
    );
    assert!(
        host("example.org").matches(&"example.org".parse().unwrap())
            && !host("example.org").matches(&"a.example.org".parse().unwrap())
    );
    assert_eq!(host("*.b.example.org").meet(&below), Some(host("*.b.example.org")));
}

#[test]
fn a_host_grant_has_a_protocol_and_a_port() {
    let grant = |text: &str| text.parse::<HostGrant>();
    let tcp = grant("tcp://*.example.org:443").unwrap();
    let tls = grant("tls://Api.example.org:443").unwrap();
    assert_eq!(tcp.meet(&tls), Some(tls.clone()), "tcp is everything, so the narrower protocol stays");
    assert_eq!(tls.meet(&grant("http://api.example.org:443").unwrap()), None);
    assert_eq!(tls.meet(&grant("tls://api.example.org:8443").unwrap()), None);
    for bad in [
        "example.org",
        "example.org:443",
        "tls://example.org",
        "tls://example.org:",
        "tls://example.org:0",
        "tls://example.org:65536",
        "tls://example.org:+1",
        "tls://example.org:0443",
        "udp://example.org:53",
        "TLS://example.org:443",
        "tls://example.org:443/",
        "tls://:443",
        "tls://1.1.1.1:443",
        "tls://[::1]:443",
        "tls://a@example.org:443",
    ] {
        assert!(grant(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_secret_is_used_only_for_a_host_that_is_granted_with_tls() {
    let with_hosts = |hosts: &str, grant: &str| {
        let text = with("hosts = []", &format!("hosts = [{hosts}]"));
        Draft::parse(text.replace("grants = []", &format!("grants = [{grant:?}]")).as_bytes())
    };
    let tls = "\"tls://*.example.org:443\"";
    let draft = with_hosts(tls, "use prod/git at api.example.org").unwrap();
    assert_eq!(draft.manifest().unenforceable(), []);
    for (hosts, grant) in [
        (tls, "use prod/git at example.org"),
        ("\"http://api.example.org:443\"", "use prod/git at api.example.org"),
        ("\"tcp://api.example.org:443\"", "use prod/git at api.example.org"),
        ("\"tls://api.example.org:443\"", "use prod/git at *.example.org"),
    ] {
        let errors = with_hosts(hosts, grant).unwrap_err();
        let error = errors.iter().next().unwrap();
        assert!(matches!(error.problem, Problem::CredentialHost(_)), "{error}");
        assert_eq!(error.field, "credentials.grants[0]");
    }
    for bad in [
        "prod/git",
        "use prod/git",
        "use prod/git at",
        "show x",
        "sign ../x",
        "sign x at a.org",
        "sign  x",
        "use x at a.org in",
        "use x at a.org in ",
        "use x at a.org in body",
        "sign x in header x-key",
        "use x at a.org in header x-key in basic me",
    ] {
        assert!(bad.parse::<CredentialGrant>().is_err(), "{bad}");
    }
}

#[test]
fn a_login_over_ssh_is_for_a_host_that_is_reached_and_known_by_its_key() {
    const KEY: &str = "SHA256:II89XAYBZc6bTX4f3LFTMNuPCHTb1fJJ3Xvd6n563FY";
    let with_host = |host: &str, grant: &str| {
        let text = with("hosts = []", &format!("hosts = [{host:?}]"));
        Draft::parse(text.replace("grants = []", &format!("grants = [{grant:?}]")).as_bytes())
    };
    let grant = format!("ssh prod/deploy to git@git.example.org:22 key {KEY}");
    assert_eq!(grant.parse::<CredentialGrant>().unwrap().to_string(), grant);
    let draft = with_host("tcp://*.example.org:22", &grant).unwrap();
    assert_eq!(draft.manifest().unenforceable(), []);
    for host in ["tcp://git.example.org:2222", "tls://git.example.org:22", "tcp://example.org:22"] {
        let errors = with_host(host, &grant).unwrap_err();
        let error = errors.iter().next().unwrap();
        assert!(matches!(error.problem, Problem::LoginHost(..)), "{error}");
        assert!(error.to_string().contains("tcp://git.example.org:22"), "{error}");
    }
    for bad in [
        "ssh prod/deploy".to_owned(),
        "ssh prod/deploy to git@git.example.org:22".to_owned(),
        format!("ssh prod/deploy to git.example.org:22 key {KEY}"),
        format!("ssh prod/deploy to git@git.example.org key {KEY}"),
        format!("ssh prod/deploy to git@*.example.org:22 key {KEY}"),
        format!("ssh prod/deploy to git@git.example.org:022 key {KEY}"),
        format!("ssh prod/deploy to -oProxy@git.example.org:22 key {KEY}"),
        "ssh prod/deploy to git@git.example.org:22 key MD5:aa".to_owned(),
    ] {
        assert!(bad.parse::<CredentialGrant>().is_err(), "{bad}");
    }
}

#[test]
fn a_login_to_a_database_is_for_a_host_that_is_reached_with_tls_on_that_port() {
    let with_host = |host: &str, grant: &str| {
        let text = with("hosts = []", &format!("hosts = [{host:?}]"));
        Draft::parse(text.replace("grants = []", &format!("grants = [{grant:?}]")).as_bytes())
    };
    let grant = "postgres prod/db to app@db.example.org:5432/sales";
    assert_eq!(grant.parse::<CredentialGrant>().unwrap().to_string(), grant);
    assert_eq!(with_host("tls://*.example.org:5432", grant).unwrap().manifest().unenforceable(), []);
    for host in ["tls://db.example.org:443", "tcp://db.example.org:5432", "tls://example.org:5432"] {
        let errors = with_host(host, grant).unwrap_err();
        let error = errors.iter().next().unwrap();
        assert!(matches!(error.problem, Problem::LoginHost(..)), "{error}");
        assert!(error.to_string().contains("tls://db.example.org:5432"), "{error}");
    }
    let parsed = |text: &str| text.parse::<CredentialGrant>().unwrap();
    let (one, any) = (parsed(grant), parsed("postgres prod/db to app@db.example.org:5432/*"));
    assert_eq!((one.meet(&any), any.meet(&one)), (Some(one.clone()), Some(one.clone())));
    for other in [
        "postgres prod/db to app@db.example.org:5432/other",
        "postgres prod/db to root@db.example.org:5432/*",
        "postgres prod/db to app@db.example.org:5433/*",
        "postgres prod/db to app@d.example.org:5432/*",
        "postgres prod/other to app@db.example.org:5432/*",
        "use prod/db at db.example.org",
    ] {
        assert_eq!(one.meet(&parsed(other)), None, "{other}");
    }
    for bad in [
        "postgres prod/db",
        "postgres prod/db to app@db.example.org:5432",
        "postgres prod/db to app@db.example.org:5432/",
        "postgres prod/db to app@db.example.org:5432/a/b",
        "postgres prod/db to app@db.example.org:5432/a*",
        "postgres prod/db to app@db.example.org/sales",
        "postgres prod/db to app@*.example.org:5432/sales",
        "postgres prod/db to db.example.org:5432/sales",
        "postgres prod/db to *@db.example.org:5432/sales",
        "postgres prod/db to app@db.example.org:5432/sales in header x",
    ] {
        assert!(bad.parse::<CredentialGrant>().is_err(), "{bad}");
    }
}

#[test]
fn names_are_whole_or_beginnings() {
    let name = |text: &str| text.parse::<NamePattern>().unwrap();
    assert!(name("anthropic/*").matches("anthropic/x") && !name("anthropic/*").matches("anthropic"));
    assert!(name("gpt").matches("gpt") && !name("gpt").matches("gpt-5"));
    assert_eq!(name("a").meet(&name("a*")), Some(name("a")));
    assert_eq!(name("ab*").meet(&name("a*")), Some(name("ab*")));
    assert_eq!(name("ab").meet(&name("ac*")), None);
    for bad in ["", "a*b", "**", "a b", "a\"", &"a".repeat(129)] {
        assert!(bad.parse::<NamePattern>().is_err(), "{bad}");
    }
    let set: PatternSet<NamePattern> = ["a*", "ab", "c"].iter().map(|t| name(t)).collect();
    assert_eq!(set.to_string(), "[\"a*\", \"c\"]", "what lies within another is not kept");
}

#[test]
fn a_budget_is_exact_and_a_rate_is_at_most_all_of_it() {
    let text = with("allowed = []", "allowed = [\"*\"]\ntokens = 10\nspend_usd = 1.000001");
    let draft = Draft::parse(text.as_bytes()).unwrap();
    let models = draft.manifest().asked().models().clone();
    assert_eq!((models.tokens_per_minute, models.microusd_per_minute), (10, 1_000_001));
    assert_eq!((models.tokens_per_day, models.microusd_per_day), (u64::MAX, u64::MAX));
    let text = with("allowed = []", "tokens_per_day = 5\nspend_usd_per_day = 0.25");
    let daily = Draft::parse(text.as_bytes()).unwrap().manifest().asked().models().clone();
    assert_eq!((daily.tokens_per_day, daily.microusd_per_day), (5, 250_000));
    assert_eq!(draft.manifest().budget().spend_microusd, 1_000_001);
    let text =
        with("allowed = []", "tokens = 10\ntokens_per_minute = 3\nspend_usd = 2\nspend_usd_per_minute = 0.5");
    let models = Draft::parse(text.as_bytes()).unwrap().manifest().asked().models().clone();
    assert_eq!((models.tokens_per_minute, models.microusd_per_minute), (3, 500_000));
    for bad in ["0.0000001", "-1", "1e3", "inf", "nan", "\"1\"", "1000000001"] {
        let text = with("allowed = []", &format!("spend_usd = {bad}"));
        let errors = Draft::parse(text.as_bytes()).unwrap_err();
        assert_eq!(errors.iter().next().unwrap().field, "models.spend_usd", "{bad}");
    }
}

#[test]
fn a_server_of_tools_has_a_name_that_no_other_tool_can_begin_with_and_a_role_that_lets_it() {
    let serving = |name: &str| with("[skills]\nallowed = []", &format!("[skills]\nserves = {name:?}"));
    for name in ["a", "web-search", "0x2", "abcdefghijklmnopqrstuvwx"] {
        let text = serving(name).replace("\"analyst\"", "\"developer\"");
        let rights = root(&text, "developer").unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(rights.grants().serves(), Some(name));
    }
    for name in ["", "-a", "a_b", "a__b", "A", "a.b", "a b", "ä", "abcdefghijklmnopqrstuvwxy"] {
        let error = Draft::parse(serving(name).as_bytes()).unwrap_err().to_string();
        assert!(error.contains("skills.serves") && error.contains("1 to 24"), "{name:?}: {error}");
    }
    // What analysts sign is nobody's tool.
    let rights = root(&serving("web"), "admin").unwrap();
    assert_eq!(rights.grants().serves(), None);
    assert_eq!(rights.narrowed().iter().map(|row| row.field).collect::<Vec<_>>(), ["skills.serves"]);
}
