//! From rights to a plan: a pure function, so that the same rights give the same plan on every machine.

use crate::enforce::{AUTHORITY, BUNDLE, LLM_SOCKET, SOCKET, etc};
use crate::plan::{
    Bind, Layer, Limits, Link, OWN, Plan, PlanError, Proc, Program, Scratch, Stdio, Syscalls, VERSION,
    WORKSPACE, within,
};
use octant_api::egress::Door;
use octant_ids::{Aid, Sha256};
use octant_manifest::{CredentialGrant, Effective, GrantPath, Kept, NO_END, Resources, Way};
use std::collections::BTreeMap;

/// What a plan needs beside the rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The agent.
    pub aid: Aid,
    /// Its slot.
    pub slot: u32,
    /// Layers that the operator accepts as missing.
    pub accept_missing: Vec<Layer>,
    /// The lowest Landlock ABI version that is acceptable on this machine.
    pub landlock_floor: u32,
    /// The snapshot that was named for its workspace to begin with, which its rights have to leave open.
    pub base: Option<Sha256>,
    /// Where a person runs the program, if it is one and not a service.
    pub here: Option<Here>,
    /// What it needs for secrets that the gate uses for it, where it does.
    pub trust: Option<Trust>,
}

/// How a program's requests get secrets that it does not see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// The certificate, as PEM, of the authority that vouches for the gate.
    pub authority: String,
    /// Variables, as `NAME=value`, with what stands for the secrets.
    pub env: Vec<String>,
}

/// The place at which a person runs a program (`octant run`). It says where things that the rights grant stand inside, and
/// takes away from them; it adds none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Here {
    /// The directory that is `/workspace`.
    pub workspace: GrantPath,
    /// What lies in it and is a mount of its own, so that it can be neither renamed nor replaced; each with whether it can
    /// be written.
    pub guarded: Vec<(GrantPath, bool)>,
    /// Symbolic links of the host's root and `/etc`.
    pub links: Vec<Link>,
    /// Variables, as `NAME=value`, in place of those that every agent has.
    pub env: Vec<String>,
    /// Whether the program gets a terminal.
    pub stdio: Stdio,
}

/// Why rights cannot be put into a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LowerError {
    /// The result is no plan that a spawner would take.
    #[error("these rights cannot be laid out: {0}")]
    Plan(#[from] PlanError),
    /// A number beyond what the kernel's limit of that kind can hold.
    #[error("{0} is larger than the kernel's limit of that kind can be")]
    Number(&'static str),
    /// Two digests for one file.
    #[error(
        "the manifests of this agent and those above it ask for two digests of {0}: no file has both; sign one of them again"
    )]
    Digests(String),
    /// A snapshot was named, and the manifest does not leave it to the spawn.
    #[error(
        "a snapshot was named for its workspace, and its manifest and role do not leave that open; have a manifest signed with filesystem.workspace = \"any\""
    )]
    Base,
    /// An image or a snapshot for a program that a person runs in a directory of the host.
    #[error(
        "{0} is for agents: a program that is run here has this machine's files and this directory; take it out, or `octant agent spawn` it"
    )]
    Here(&'static str),
    /// A secret for such a program.
    #[error(
        "credentials.grants needs the vault, and a program that is run here has none; take it out, or `octant agent spawn` it"
    )]
    HereNoVault,
}

/// Where the program's standard descriptors come from.
fn stdio(rights: &Effective, here: Option<&Here>) -> Stdio {
    match here {
        Some(here) => here.stdio,
        None if rights.grants().serves().is_some() => Stdio::Served,
        None => Stdio::Pipes,
    }
}

impl Plan {
    /// Puts rights into a plan.
    ///
    /// Only rights can be lowered, a wish cannot:
    ///
    /// ```compile_fail,E0308
    /// # use octant_manifest::Declared;
    /// # use octant_workstation::{Plan, Site};
    /// fn skip(wish: &Declared, site: &Site) { let _ = Plan::lower(wish, site); }
    /// ```
    ///
    /// # Errors
    /// [`LowerError`]: a path where Octant lays out its own, or a number that no kernel limit can hold.
    pub fn lower(rights: &Effective, site: &Site) -> Result<Self, LowerError> {
        let resources = rights.resources();
        // Writable and executable at once is for the profiles that make programs.
        let both = rights.profile().writable_executable();
        let own =
            |place: &str| rights.grants().execute().iter().any(|path| within(place, path.as_str())) && both;
        let scratch =
            |place: &str, bytes| Scratch { bytes, inodes: resources.workspace_inodes, exec: own(place) };
        let here = site.here.as_ref();
        let (root, snapshot) = kept(rights, site)?;
        let binds = place(binds(rights, both), here);
        let inside = |path: &GrantPath| at_workspace(path.as_str(), here);
        let utilities: Vec<String> = rights.utilities().map(str::to_owned).collect();
        let links = match here {
            Some(here) => here.links.clone(),
            // An image has its own.
            None if root.is_some() => Vec::new(),
            None => links(&binds, utilities.is_empty()),
        };
        let profile = rights.profile();
        let plan = Self {
            version: VERSION,
            aid: site.aid,
            slot: site.slot,
            program: Program {
                path: inside(&rights.program().executable),
                args: rights.program().args.clone(),
                cwd: inside(&rights.program().cwd),
                env: environment(site, rights, path_of(root.is_some(), &binds, &links), root.is_some()),
            },
            trust: site.trust.as_ref().map(|trust| trust.authority.clone()),
            octant: true,
            utilities,
            root,
            image_environment: rights.program().image_environment,
            image_cwd: rights.program().image_cwd,
            links,
            binds,
            pins: pins(rights)?,
            snapshot,
            workspace: scratch("/workspace", resources.workspace_bytes.0),
            models: rights.grants().has_models(),
            retain: !rights.grants().retain().places.is_empty() && here.is_none(),
            tmp: scratch("/tmp", resources.tmp_bytes.0),
            shm: profile.runtime().then_some(Scratch {
                bytes: resources.tmp_bytes.0,
                inodes: resources.workspace_inodes,
                exec: false,
            }),
            terminals: profile.terminals() || here.is_some_and(|here| here.stdio == Stdio::Terminal),
            proc: if profile.runtime() { Proc::Machine } else { Proc::Processes },
            syscalls: Syscalls {
                profile: profile.name().to_owned(),
                add: rights.syscalls().iter().map(str::to_owned).collect(),
                network: rights.grants().connects(),
            },
            limits: limits(resources)?,
            landlock_floor: site.landlock_floor,
            accept_missing: site.accept_missing.clone(),
            stdio: stdio(rights, here),
        };
        plan.check()?;
        Ok(plan)
    }
}

fn limits(resources: &Resources) -> Result<Limits, LowerError> {
    Ok(Limits {
        memory_max: resources.memory_max.0,
        memory_high: resources.memory_high.0,
        // The reaper is one more, and not the agent's.
        pids_max: narrow("resources.pids_max", resources.pids_max.saturating_add(1))?,
        cpu_quota_percent: narrow("resources.cpu_quota_percent", resources.cpu_quota_percent)?,
        cpu_weight: narrow("resources.cpu_weight", resources.cpu_weight)?,
        nofile: resources.nofile,
        fsize: resources.fsize.0,
        io: resources.io,
    })
}

fn narrow(what: &'static str, number: u64) -> Result<u32, LowerError> {
    u32::try_from(number).map_err(|_| LowerError::Number(what))
}

/// The files whose digests are known. That a plan binds each is for its check to say.
fn pins(rights: &Effective) -> Result<BTreeMap<String, Sha256>, LowerError> {
    let mut pins = BTreeMap::new();
    for (path, digest) in rights.grants().pins().iter() {
        if pins.insert(path.as_str().to_owned(), digest).is_some() {
            return Err(LowerError::Digests(path.to_string()));
        }
    }
    Ok(pins)
}

/// The image and the snapshot. Who runs a program here has neither: it has the host's files.
fn kept(rights: &Effective, site: &Site) -> Result<(Option<Sha256>, Option<Sha256>), LowerError> {
    let root = rights.grants().root().digest();
    let snapshot = match (rights.grants().workspace(), site.base) {
        (Kept::Any, named) => named,
        (kept, None) => kept.digest(),
        (_, Some(_)) => return Err(LowerError::Base),
    };
    match site.here {
        Some(_) if root.is_some() => Err(LowerError::Here("filesystem.root")),
        Some(_) if !rights.grants().credentials().is_empty() => Err(LowerError::HereNoVault),
        Some(_) if rights.grants().has_models() => Err(LowerError::Here("models.allowed")),
        // Nobody is there whom a gate could draw requests from.
        Some(_) if rights.grants().has_network() && rights.allotment().parts()[4] != NO_END => {
            Err(LowerError::Here("network.requests"))
        }
        Some(_) if snapshot.is_some() => Err(LowerError::Here("filesystem.workspace")),
        _ => Ok((root, snapshot)),
    }
}

/// One mount for each tree whose rights differ from those of the tree around it.
fn binds(rights: &Effective, both: bool) -> Vec<Bind> {
    let grants = rights.grants();
    let (read, write, execute) = (grants.read(), grants.write(), grants.execute());
    let of = |path: &GrantPath| {
        let written = write.covers(path);
        (written, execute.covers(path) && (both || !written))
    };
    // The agent's own places need no grant; what is granted below them is bound there.
    let mut paths: Vec<&GrantPath> = read
        .iter()
        .chain(write.iter())
        .chain(execute.iter())
        .filter(|path| !OWN.contains(&path.as_str()))
        .collect();
    // A tree before what lies in it.
    paths.sort();
    paths.dedup();
    let mut laid: Vec<&GrantPath> = Vec::new();
    for path in paths {
        let around = laid.iter().rev().find(|tree| tree.covers(path));
        if around.is_none_or(|tree| of(tree) != of(path)) {
            laid.push(path);
        }
    }
    laid.into_iter()
        .map(|path| {
            let (write, exec) = of(path);
            Bind { source: path.as_str().to_owned(), target: path.as_str().to_owned(), write, exec }
        })
        .collect()
}

/// A path of the host as it is inside.
fn at_workspace(path: &str, here: Option<&Here>) -> String {
    match here.map(|here| here.workspace.as_str()) {
        Some(workspace) if within(path, workspace) => {
            format!("{WORKSPACE}{}", path.get(workspace.len()..).unwrap_or_default())
        }
        _ => path.to_owned(),
    }
}

/// Puts the granted trees where they stand inside, and what is guarded in the workspace on top of it.
fn place(mut binds: Vec<Bind>, here: Option<&Here>) -> Vec<Bind> {
    for bind in &mut binds {
        bind.target = at_workspace(&bind.source, here);
    }
    let Some(here) = here else { return binds };
    let Some(around) = binds.iter().find(|bind| bind.target == WORKSPACE).cloned() else { return binds };
    for (path, write) in &here.guarded {
        let (source, target) = (path.as_str().to_owned(), at_workspace(path.as_str(), Some(here)));
        binds.retain(|bind| bind.target != target);
        binds.push(Bind { source, target, write: *write && around.write, exec: around.exec });
    }
    binds
}

/// The links of a merged `/usr`, which programs that are not static name in their headers and scripts in their first
/// line. `/bin` is Octant's own where one of its utilities is granted, and the host's where none is.
fn links(binds: &[Bind], hosts_bin: bool) -> Vec<Link> {
    let whole = |name: &str| binds.iter().any(|bind| within(&format!("/usr/{name}"), &bind.target));
    ["bin", "lib", "lib64", "sbin"]
        .iter()
        .filter(|name| {
            let (merged, plain) = (format!("/usr/{name}"), format!("/{name}"));
            let there = match **name {
                "bin" => hosts_bin && whole("bin"),
                "sbin" => whole("sbin"),
                _ => whole(name) || binds.iter().any(|bind| within(&bind.target, &merged)),
            };
            there && !binds.iter().any(|bind| within(&bind.target, &plain))
        })
        .map(|name| Link { at: format!("/{name}"), to: format!("usr/{name}") })
        .collect()
}

/// Where programs are looked for.
fn path_of(image: bool, binds: &[Bind], links: &[Link]) -> String {
    if image {
        // Octant's utilities last: an image with a shell of its own runs its own scripts by it.
        return format!("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:{}", crate::image::BIN);
    }
    let own = (!links.iter().any(|link| link.at == "/bin")).then_some("/bin");
    let hosts = ["/usr/local/bin", "/usr/bin"]
        .into_iter()
        .filter(|dir| binds.iter().any(|bind| bind.exec && within(dir, &bind.target)));
    own.into_iter().chain(hosts).collect::<Vec<_>>().join(":")
}

/// Variables that name a file of all authorities that are trusted.
const BUNDLE_VARIABLES: [&str; 4] =
    ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"];

/// Whether git finds its keys with Octant's SSH agent.
fn logs_in(rights: &Effective) -> bool {
    let ssh = |grant: &CredentialGrant| matches!(grant.way, Way::Ssh(_));
    rights.grants().credentials().iter().any(ssh)
}

/// Where programs find models: as their SDKs look for them. What stands for a key is none: who asks is known by the socket
/// that it asks through.
fn model_variables() -> [String; 6] {
    let (_, port) = Door::Models.place();
    let at = format!("http://127.0.0.1:{port}");
    [
        format!("OPENAI_BASE_URL={at}/v1"),
        format!("OPENAI_API_KEY={NO_KEY}"),
        format!("ANTHROPIC_BASE_URL={at}/anthropic"),
        format!("ANTHROPIC_API_KEY={NO_KEY}"),
        format!("OLLAMA_HOST={at}"),
        format!("OCTANT_LLM_SOCKET={LLM_SOCKET}"),
    ]
}

/// What SDKs get that want a key.
const NO_KEY: &str = "octant-has-the-key";

fn environment(site: &Site, rights: &Effective, path: String, image: bool) -> Vec<String> {
    let mut env = vec![
        format!("PATH={path}"),
        "HOME=/workspace".into(),
        "TMPDIR=/tmp".into(),
        "USER=agent".into(),
        "LANG=C.UTF-8".into(),
        format!("OCTANT_AGENT={}", site.aid),
        format!("OCTANT_SOCKET={SOCKET}"),
    ];
    if let Some(trust) = &site.trust {
        let etc = etc(image);
        // What replaces the roots that a program knows gets all of them, and what adds to them the one more.
        env.extend(BUNDLE_VARIABLES.iter().map(|name| format!("{name}={etc}/{BUNDLE}")));
        env.push(format!("NODE_EXTRA_CA_CERTS={etc}/{AUTHORITY}"));
        env.extend(trust.env.iter().cloned());
    }
    if rights.grants().has_models() {
        env.extend(model_variables());
    }
    if logs_in(rights) {
        env.push("GIT_SSH_COMMAND=/octant ssh-agent -- ssh".into());
    }
    for variable in site.here.as_ref().map(|here| here.env.as_slice()).unwrap_or_default() {
        let name = variable.split_inclusive('=').next().unwrap_or_default();
        env.retain(|other| !other.starts_with(name));
        env.push(variable.clone());
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;
    use octant_manifest::{Audience, Ceiling, Envelope, Machine, Roles, SigningKey, TrustedKeys};

    fn rights(change: &[(&str, &str)]) -> Effective {
        let key = SigningKey::from_seed([7; 32]);
        let keys = TrustedKeys::from_files(&[("ada.pub".into(), key.public_file("ada", "admin"))]).unwrap();
        let mut text = octant_manifest::template("hello", "admin", "ada");
        for (line, new) in change {
            // What has several lines is replaced as it is.
            let whole = text.lines().find(|l| l.starts_with(line)).or(text.contains(line).then_some(*line));
            let old = whole.unwrap_or_else(|| panic!("{line} in {text}")).to_owned();
            text = text.replacen(&old, new, 1);
        }
        let envelope = octant_manifest::sign(text.as_bytes(), &[&key]);
        let declared = Envelope::parse(&envelope)
            .unwrap()
            .verify(&keys, &Audience { machine: "any", now_ms: 0 })
            .unwrap()
            .declare()
            .unwrap();
        let ceiling = Ceiling::new(&Roles::builtin(), Machine { memory_bytes: 1 << 40, cpus: 64 });
        Effective::root(&declared, &ceiling).unwrap()
    }

    fn site() -> Site {
        Site {
            aid: Aid::new(1_700_000_000_000, [7; 10]),
            slot: 3,
            accept_missing: vec![],
            landlock_floor: 2,
            base: None,
            here: None,
            trust: None,
        }
    }

    #[test]
    fn the_template_lowers_to_a_plan_that_a_spawner_takes() {
        let plan = Plan::lower(&rights(&[]), &site()).unwrap();
        assert_eq!(plan.check(), Ok(()));
        assert_eq!(plan.slot, 3);
        assert!(crate::filter::of_profile(&plan.syscalls).is_ok());
    }

    #[test]
    fn what_secrets_need_is_in_the_environment_and_in_a_file() {
        let authority = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned();
        let trust = Trust { authority: authority.clone(), env: vec!["OCTANT_SECRET_X=octs_x".into()] };
        let plan = Plan::lower(&rights(&[]), &Site { trust: Some(trust), ..site() }).unwrap();
        assert_eq!((plan.check(), plan.trust.as_ref()), (Ok(()), Some(&authority)));
        for variable in ["OCTANT_SECRET_X=octs_x", "SSL_CERT_FILE=/etc/octant/trust.pem"] {
            assert!(plan.program.env.iter().any(|other| other == variable), "{:?}", plan.program.env);
        }
        for bad in ["", "/etc/passwd", &"-----BEGIN CERTIFICATE-----\n".repeat(2000)] {
            assert!(Plan { trust: Some(bad.to_owned()), ..plan.clone() }.check().is_err());
        }
    }

    #[test]
    fn git_finds_the_keys_that_log_in_for_it() {
        let set =
            |plan: &Plan| plan.program.env.iter().any(|variable| variable.starts_with("GIT_SSH_COMMAND="));
        assert!(!set(&Plan::lower(&rights(&[]), &site()).unwrap()));
        let grant = "grants = [\"ssh prod/deploy to git@git.example.org:22 key \
            SHA256:II89XAYBZc6bTX4f3LFTMNuPCHTb1fJJ3Xvd6n563FY\"]";
        let hosts = "hosts = [\"tcp://git.example.org:22\"]";
        let rights = rights(&[("hosts =", hosts), ("grants =", grant)]);
        assert!(set(&Plan::lower(&rights, &site()).unwrap()));
    }

    #[test]
    fn who_may_ask_models_finds_them_and_who_may_not_does_not() {
        let set = |plan: &Plan| {
            let find = |name: &str| plan.program.env.iter().any(|variable| variable.starts_with(name));
            let socket = find("OCTANT_LLM_SOCKET=/run/octant/llm.sock");
            assert_eq!(socket, plan.models);
            (find("OPENAI_BASE_URL=http://127.0.0.1:7070/v1"), find("ANTHROPIC_"), plan.syscalls.network)
        };
        assert_eq!(set(&Plan::lower(&rights(&[]), &site()).unwrap()), (false, false, false));
        let asks = rights(&[("[models]\nallowed = []", "[models]\nallowed = [\"small\"]\ntokens = 1000")]);
        assert_eq!(set(&Plan::lower(&asks, &site()).unwrap()), (true, true, true));
    }

    #[test]
    fn a_file_with_a_digest_is_a_mount_of_its_own_in_a_tree_that_is_read() {
        let digest = "ab".repeat(32);
        let paths = format!("paths = [\"/opt/tool\"]\nsha256 = [\"{digest}  /opt/tool\"]");
        let rights = rights(&[("read =", "read = [\"/opt\"]"), ("paths =", &paths)]);
        let plan = Plan::lower(&rights, &site()).unwrap();
        let binds: Vec<(&str, bool)> =
            plan.binds.iter().map(|bind| (bind.source.as_str(), bind.exec)).collect();
        assert_eq!(binds, [("/opt", false), ("/opt/tool", true)]);
        assert_eq!(plan.pins["/opt/tool"].to_string(), digest);
    }

    #[test]
    fn two_digests_of_one_file_are_refused() {
        let [a, b] = ["a", "b"].map(|digit| format!("\"{}  /opt/tool\"", digit.repeat(64)));
        let paths = format!("paths = [\"/opt/tool\"]\nsha256 = [{a}, {b}]");
        let error = Plan::lower(&rights(&[("paths =", &paths)]), &site()).unwrap_err();
        assert_eq!(error, LowerError::Digests("/opt/tool".into()));
    }

    #[test]
    fn each_tree_with_rights_of_its_own_is_one_mount() {
        let rights = rights(&[
            ("read =", r#"read = ["/srv", "/srv/a", "/usr/lib"]"#),
            ("write =", r#"write = ["/srv/out", "/tmp/x"]"#),
            ("paths =", r#"paths = ["/usr/lib"]"#),
        ]);
        let plan = Plan::lower(&rights, &site()).unwrap();
        let rows: Vec<_> = plan.binds.iter().map(|b| (b.target.as_str(), b.write, b.exec)).collect();
        assert_eq!(
            rows,
            [
                ("/srv", false, false),
                ("/srv/out", true, false),
                ("/tmp/x", true, false),
                ("/usr/lib", false, true)
            ]
        );
        assert_eq!(plan.links, [Link { at: "/lib".into(), to: "usr/lib".into() }]);
    }

    #[test]
    fn bin_is_the_hosts_where_no_utility_is_granted() {
        let path = |plan: &Plan| plan.program.env[0].clone();
        let at = |plan: &Plan| plan.links.iter().map(|link| link.at.clone()).collect::<Vec<_>>();
        let usr = ("paths =", r#"paths = ["/usr"]"#);
        let plan = Plan::lower(&rights(&[usr]), &site()).unwrap();
        assert_eq!(at(&plan), ["/lib", "/lib64", "/sbin"]);
        assert_eq!(path(&plan), "PATH=/bin:/usr/local/bin:/usr/bin");
        let none =
            [usr, ("utilities =", "utilities = []"), ("executable =", r#"executable = "/usr/bin/sh""#)];
        let plan = Plan::lower(&rights(&none), &site()).unwrap();
        assert_eq!(at(&plan), ["/bin", "/lib", "/lib64", "/sbin"]);
        assert_eq!(path(&plan), "PATH=/usr/local/bin:/usr/bin");
    }

    #[test]
    fn the_profile_decides_what_dev_and_proc_have() {
        let of = |profile: &str| {
            let line = format!("profile = {profile:?}");
            let plan = Plan::lower(&rights(&[("profile =", &line)]), &site()).unwrap();
            (plan.terminals, plan.shm.is_some(), plan.proc)
        };
        assert_eq!(of("minimal"), (false, false, Proc::Processes));
        assert_eq!(of("shell"), (true, false, Proc::Processes));
        for runtime in ["python", "node", "compiler"] {
            assert_eq!(of(runtime), (true, true, Proc::Machine));
        }
    }

    #[test]
    fn who_runs_a_program_here_has_no_image_and_no_snapshot() {
        let here = Here {
            workspace: GrantPath::parse("/srv/work").unwrap(),
            guarded: vec![],
            links: vec![],
            env: vec![],
            stdio: Stdio::Caller,
        };
        for (key, kind) in [("root", "image"), ("workspace", "snapshot")] {
            let line = format!("{key} = \"{kind}:sha256:{}\"\nread = []", "a".repeat(64));
            let rights = rights(&[("read =", &line)]);
            assert!(Plan::lower(&rights, &site()).is_ok(), "{key}");
            let error = Plan::lower(&rights, &Site { here: Some(here.clone()), ..site() }).unwrap_err();
            assert!(matches!(error, LowerError::Here(field) if field.ends_with(key)), "{error}");
        }
        let of = |line: &str, more: &str| {
            let rights = rights(&[("hosts =", line), ("grants =", more)]);
            Plan::lower(&rights, &Site { here: Some(here.clone()), ..site() })
        };
        // The way to hosts is there, a vault is not, and neither is whom a gate draws requests from.
        let hosts = "hosts = [\"tls://api.example.org:443\"]";
        assert!(of(hosts, "grants = []").unwrap().syscalls.network);
        let secret = of(hosts, "grants = [\"use prod/api at api.example.org\"]").unwrap_err();
        assert_eq!(secret, LowerError::HereNoVault);
        let counted = of(&format!("{hosts}\nrequests = 5"), "grants = []").unwrap_err();
        assert_eq!(counted, LowerError::Here("network.requests"));
    }

    #[test]
    fn an_image_gives_its_environment_and_directory_where_the_manifest_says_so() {
        let root = format!("root = \"image:sha256:{}\"\nread = []", "a".repeat(64));
        let of = |more: &str| {
            let cwd = format!("cwd = \"/workspace\"{more}");
            let rights = rights(&[("read =", &root), ("cwd =", &cwd)]);
            let plan = Plan::lower(&rights, &site()).unwrap();
            (plan.image_environment, plan.image_cwd)
        };
        assert_eq!(of(""), (false, false));
        assert_eq!(of("\nimage_environment = true"), (true, false));
        assert_eq!(of("\nimage_cwd = true"), (false, true));
    }

    #[test]
    fn what_octant_lays_out_itself_cannot_be_replaced() {
        let rights = rights(&[("read =", r#"read = ["/etc/passwd"]"#)]);
        let error = Plan::lower(&rights, &site()).unwrap_err();
        assert_eq!(error, LowerError::Plan(PlanError::Reserved("/etc/passwd".into())));
    }
}
