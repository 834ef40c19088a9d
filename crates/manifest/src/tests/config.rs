//! The configuration of a machine: what is read, what is refused, what it becomes.

use crate::*;

fn fine(_: &str, _: &[&str], _: &str) -> Result<(), Wrong> {
    Ok(())
}

/// As an owner would: numbers from 1 to 10 in [limits], and a hostname that is a text.
fn strict(owner: &str, names: &[&str], text: &str) -> Result<(), Wrong> {
    #[derive(serde::Deserialize)]
    struct Limits {
        max_agents: Option<u64>,
    }
    #[derive(serde::Deserialize)]
    struct Init {
        #[serde(rename = "hostname")]
        _hostname: Option<String>,
    }
    match owner {
        "agents" => match table::<Limits>(text, names, &[])?.max_agents {
            Some(11..) => Err(Wrong { offset: None, field: "max_agents".into(), why: "more than 10".into() }),
            _ => Ok(()),
        },
        "init" => table::<Init>(text, names, &[]).map(drop),
        _ => Ok(()),
    }
}

const HEAD: &str =
    "config = 1\nserial = 7\n[audience]\nmachines = [\"m-1\"]\nnot_after = 2030-01-01T00:00:00Z\n";

fn parsed(more: &str) -> Result<MachineConfig, String> {
    MachineConfig::parse(format!("{HEAD}{more}").as_bytes(), strict).map_err(|errors| errors.to_string())
}

fn file(config: &MachineConfig, name: &str) -> String {
    let files = config.files();
    let (_, bytes) =
        files.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("{name}: {files:?}"));
    String::from_utf8(bytes.clone()).unwrap()
}

#[test]
fn the_template_is_a_configuration_and_each_line_of_it_that_is_switched_on_too() {
    let text = config_template(4, 1_900_000_000_000);
    let config = MachineConfig::parse(text.as_bytes(), fine).unwrap();
    assert_eq!((config.serial, config.not_after_ms), (4, 1_900_000_000_000));
    let key = SigningKey::from_seed([1; 32]).public_file("alice", "admin");
    let on: String = text
        .lines()
        .map(|line| {
            line.strip_prefix("# ")
                .filter(|rest| {
                    rest.starts_with('[')
                        || rest
                            .split_once(" = ")
                            .is_some_and(|(key, _)| !key.contains(' ') || key.starts_with('"'))
                })
                .map_or(line, |rest| {
                    if rest.starts_with("manifest") || rest.starts_with("[agents") { "" } else { rest }
                })
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let on = on
        .replace("BASE64", key.split_whitespace().nth(1).unwrap())
        .replace("64 hexadecimal digits", &"ab".repeat(32));
    let config =
        MachineConfig::parse(on.as_bytes(), fine).map_err(|errors| format!("{errors}\n{on}")).unwrap();
    assert!(config.fields().len() > 20, "{:?}", config.fields());
}

#[test]
fn everything_that_is_wrong_is_told_at_once_with_its_line_and_field() {
    let errors = parsed(concat!(
        "[machine]\nhostname = 5\n[limits]\nmax_agents = 11\n[nonsense]\n[units.Web]\nexec = []\nuser = 5\n",
        "[operators.ada]\nkey = \"x\"\nrole = \"admin\"\n[revoked]\nabc = \"why\"\n[units.web]\nenable = false\n",
        "[agents.one]\nmanifest = \"{}\"\n"
    ))
    .unwrap_err();
    let lines: Vec<&str> = errors.lines().collect();
    for (line, start) in [
        (0, "line 7, machine: invalid type: integer `5`, expected a string"),
        (1, "line 9, limits.max_agents: more than 10"),
        (2, "line 10, nonsense: there is no such field; known here: config, serial"),
        (3, "line 11, units.Web: \"Web\" cannot stand here; write a name of a-z, 0-9 and -"),
        (4, "line 14, operators.ada: ada.pub line 1: the key is not"),
        (5, "line 18, revoked.abc: \"abc\" cannot stand here; write the identifier of a key"),
        (6, "line 20, units.web.enable: there is no such field; did you mean \"enabled\"?"),
        (7, "line 22, agents.one.manifest: "),
    ] {
        assert!(lines.get(line).is_some_and(|text| text.starts_with(start)), "{start}\n{errors}");
    }
    assert_eq!(lines.len(), 8, "{errors}");
    for (text, why) in [
        ("", "config: missing; add config = 1"),
        ("config = 2\n", "version 2 is not possible: it is not known here; this build reads 1"),
        ("config = 1\nserial = 0\n", "a serial number begins with 1"),
        ("config = 1\nserial = -1\n", "not a whole number"),
        ("config = 1\n[audience]\nmachines = [\"*\"]\n", "audience.not_after: missing"),
        ("config = [1\n", "this is not TOML"),
    ] {
        let errors = MachineConfig::parse(text.as_bytes(), fine).unwrap_err().to_string();
        assert!(errors.contains(why), "{text}: {errors}");
    }
}

#[test]
fn the_files_of_an_edition_are_what_the_text_says() {
    let key = SigningKey::from_seed([1; 32]).public_file("ada", "admin");
    let key = key.split_whitespace().nth(1).unwrap();
    let manifest = template("hello", "admin", "ada");
    let envelope = String::from_utf8(sign(manifest.as_bytes(), &[&SigningKey::from_seed([1; 32])])).unwrap();
    let id = "ab".repeat(32);
    let config = parsed(&format!(
        "[machine]\nhostname = \"edge\"\n[network.links.eth0]\nmtu = 1400\n[limits]\nmax_agents = 3\n\
         [vault]\nfirst_boot = \"tpm\"\n[logs]\nolder = 5\n[operators.ada]\nkey = \"{key}\"\nrole = \"admin\"\nuntil = 2029-01-01T00:00:00Z\n[revoked]\n{id} = \"lost\"\n\
         [units.web]\nexec = [\"/a\"]\nuser = 5\nenabled = true\nresources = {{ pids_max = 9 }}\n[units.tty2]\nenabled = false\n\
         [agents.report]\nmanifest = '''{envelope}'''\n"
    ))
    .unwrap();
    let octant = file(&config, "octant.toml");
    assert!(
        octant.contains("[init]\nhostname = \"edge\"\ndisabled = [\"tty2\"]\n")
            || octant.contains("[init]\ndisabled = [\"tty2\"]\nhostname = \"edge\"\n"),
        "{octant}"
    );
    assert!(
        octant.contains("[network.links.eth0]\nmtu = 1400\n")
            && octant.contains("[agents]\nmax_agents = 3\n")
            && octant.contains("[vault]\nfirst_boot = \"tpm\"\n")
            && octant.contains("[log]\nolder = 5\n"),
        "{octant}"
    );
    assert_eq!(
        file(&config, "trusted/ada.pub"),
        format!("ed25519 {key} ada role=admin until=2029-01-01T00:00:00Z\n")
    );
    assert_eq!(file(&config, "trusted/revoked"), format!("{id} lost\n"));
    assert_eq!(file(&config, "units/web.toml"), "exec = [\"/a\"]\nuser = 5\n\n[resources]\npids_max = 9\n");
    assert_eq!(file(&config, "agents/report.json"), envelope);
    assert_eq!(config.files().len(), 5);
}

#[test]
fn what_changes_is_told_field_by_field_with_what_it_takes() {
    let was = parsed("[machine]\nhostname = \"a\"\nconsole = \"off\"\n[network]\n").unwrap();
    let is = parsed("[machine]\nhostname = \"b\"\nconsole = \"login\"\n[network]\nsearch = [\"x\"]\n[units.web]\nexec = [\"/a\"]\nuser = 5\n").unwrap();
    let rows: Vec<String> = changes(Some(&was), Some(&is))
        .into_iter()
        .map(|row| format!("{} {:?} {:?} {:?} {:?}", row.field, row.was, row.is, row.effect, row.unit))
        .collect();
    assert_eq!(
        rows,
        [
            r#"machine.console Some("\"off\"") Some("\"login\"") Reboot None"#,
            r#"machine.hostname Some("\"a\"") Some("\"b\"") Live None"#,
            r#"network Some("{}") None Restart Some("network")"#,
            r#"network.search None Some("[\"x\"]") Restart Some("network")"#,
            r#"units.web.exec None Some("[\"/a\"]") Restart Some("web")"#,
            r#"units.web.user None Some("5") Restart Some("web")"#,
        ]
    );
    assert!(changes(Some(&was), Some(&was)).is_empty());
}

#[test]
fn a_configuration_is_for_its_machines_and_its_time() {
    let ada = SigningKey::from_seed([1; 32]);
    let keys = TrustedKeys::from_files(&[("ada.pub".into(), ada.public_file("ada", "admin"))]).unwrap();
    let text = format!("{HEAD}not_before = 2029-01-01T00:00:00Z\n");
    let verify = |machine: &str, now_ms: u64, serial: u64| {
        let labels = ["edge".to_owned()];
        let site = ConfigSite { machine, labels: &labels, now_ms, serial, check: fine };
        SignedConfig::parse(&sign_config(text.as_bytes(), &[&ada]))
            .unwrap()
            .verify(&keys, &site)
            .map(|a| a.config.serial)
    };
    let (start, end) = (1_861_920_000_000, 1_893_456_000_000);
    assert_eq!(verify("m-1", start, 6), Ok(7));
    let of_fleet = |labels: &str| {
        let head = HEAD.replace("machines = [\"m-1\"]", &format!("labels = {labels}"));
        let labels = ["edge".to_owned(), "eu".to_owned()];
        let site = ConfigSite { machine: "m-1", labels: &labels, now_ms: start, serial: 6, check: fine };
        SignedConfig::parse(&sign_config(head.as_bytes(), &[&ada])).unwrap().verify(&keys, &site).map(drop)
    };
    assert_eq!(of_fleet("[\"store\", \"eu\"]"), Ok(()));
    for labels in ["[\"store\"]", "[\"m-1\"]"] {
        let why = of_fleet(labels).unwrap_err().to_string();
        assert!(why.contains("this machine is \"m-1\", label edge, label eu"), "{why}");
    }
    assert!(matches!(of_fleet("[]"), Err(ConfigRefusal::Audience { .. })));
    assert!(matches!(of_fleet("[\"E D\"]"), Err(ConfigRefusal::Text(_))), "no label is a pattern");
    assert!(matches!(verify("m-2", start, 6), Err(ConfigRefusal::Audience { .. })));
    assert!(matches!(verify("m-1", start - 1, 6), Err(ConfigRefusal::Early { .. })));
    assert!(matches!(verify("m-1", end, 6), Err(ConfigRefusal::Late { .. })));
    for serial in [7, 8, u64::MAX] {
        assert!(matches!(verify("m-1", start, serial), Err(ConfigRefusal::Serial { .. })));
    }
    // What was signed as something else is something else.
    let manifest = sign(text.as_bytes(), &[&ada]);
    assert!(matches!(SignedConfig::parse(&manifest), Err(ConfigRefusal::Envelope(_))));
    let config = sign_config(template("hello", "admin", "ada").as_bytes(), &[&ada]);
    assert!(Envelope::parse(&config).is_err());
}
