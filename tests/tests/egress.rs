//! The way out of a workstation, with real programs, real TLS and names, on a network of the test's own.

use crate::exports::Said;
use crate::namespace::{Instance, ended};
use octant_tests::agents::{guest_files, sign};
use octant_tests::environment::{binary, path};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An instance in a network of its own with an internet beside it.
struct Internet {
    instance: Instance,
    /// What the internet has, and what it heard.
    dir: PathBuf,
}

/// Hosts with TLS.
const HOSTS: [&str; 5] =
    ["api.example.org", "slow.example.org", "evil.example.net", "code.example.org", "db.example.org"];

impl Internet {
    fn new(name: &str) -> Self {
        let instance = Instance::new(name);
        // Where a developer's agents may read, and not below /tmp, which is the agent's own with this profile.
        let dir = PathBuf::from(format!("/srv/octant-test-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        let internet = Self { instance, dir };
        let authority = internet.certificates();
        let config = format!(
            "[egress]\nname_servers = [\"11.0.0.53\"]\nallow_addresses = [\"11.0.0.0/8\"]\n\
             extra_roots = \"\"\"\n{authority}\"\"\"\n"
        );
        internet.instance.write("etc/octant.toml", config.as_bytes());
        internet
    }

    /// One authority, and a certificate of each host; gives the authority's.
    fn certificates(&self) -> String {
        let key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Named apart from what it signs: with one name for both, the certificate passes for one that signs itself.
        authority.distinguished_name.push(DnType::CommonName, "the authority of a test");
        let pem = authority.self_signed(&key).unwrap().pem();
        self.write("ca.pem", &pem);
        let issuer = Issuer::new(authority, key);
        for host in HOSTS {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
            self.write(&format!("{host}.crt"), &params.signed_by(&key, &issuer).unwrap().pem());
            self.write(&format!("{host}.key"), &key.serialize_pem());
        }
        pem
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.dir.join(name);
        fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    /// A signed manifest of a Python program that may reach these hosts and have these secrets used for it.
    fn manifest(&self, name: &str, hosts: &str, credentials: &str, script: &str, args: &str) {
        let fields = [("network", "hosts", hosts), ("credentials", "grants", credentials)];
        self.python(name, &fields, script, args);
    }

    /// The same, with these fields.
    fn python(&self, name: &str, fields: &[(&str, &str, &str)], script: &str, args: &str) {
        let script = guest_files().join("../python").join(script);
        fs::copy(&script, self.dir.join(format!("{name}.py")))
            .unwrap_or_else(|e| panic!("{}: {e}", script.display()));
        let dir = self.dir.display();
        let args = format!("[\"-u\", \"{dir}/{name}.py\", \"{dir}/ca.pem\"{args}]");
        let read = [format!("{name}.py"), "ca.pem".to_owned()];
        self.signed(name, ["python", "/usr/bin/python3", &args], fields, &read);
    }

    /// The same of any program: its profile, its executable, its arguments; and what of the directory it may read.
    fn signed(&self, name: &str, program: [&str; 3], fields: &[(&str, &str, &str)], read: &[String]) {
        let [profile, executable, args] = program;
        let new = Command::new(binary())
            .args(["manifest", "new", name, "--operator", "operator", "--profile", profile])
            .output()
            .unwrap_or_else(|e| panic!("manifest new: {e}"));
        let mut manifest: toml::Table = String::from_utf8_lossy(&new.stdout).parse().unwrap();
        let dir = self.dir.display();
        let mut set = |section: &str, field: &str, value: &str| {
            let value: toml::Table = format!("value = {value}").parse().unwrap();
            manifest[section].as_table_mut().unwrap().insert(field.into(), value["value"].clone());
        };
        set("program", "executable", &format!("{executable:?}"));
        set("program", "args", args);
        fields.iter().for_each(|(section, field, value)| set(section, field, value));
        set("lifetime", "ttl", "\"5min\"");
        let places = manifest["filesystem"]["read"].as_array_mut().unwrap();
        places.extend(read.iter().map(|file| toml::Value::from(format!("{dir}/{file}"))));
        self.write(&format!("{name}.toml"), &manifest.to_string());
        let path = self.dir.join(name);
        sign(&path.with_extension("toml"), &path.with_extension("signed.json"));
    }

    fn up(&self, job: &str) -> Said {
        self.instance.up_by(&mut self.beside(), &["--accept-missing", "cgroup"], job)
    }

    /// What executes the arguments that follow in a network with this internet.
    fn beside(&self) -> Command {
        let internet = guest_files().join("../python/internet.py");
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", "180", "unshare", "--net", "--pid", "--fork", "--mount-proc"]);
        command.arg(path("OCTANT_PYTHON")).arg("-B").arg(internet).arg(&self.dir);
        command
    }

    fn heard(&self) -> String {
        fs::read_to_string(self.dir.join("heard")).unwrap_or_default()
    }
}

impl Drop for Internet {
    fn drop(&mut self) {
        // Best effort: what is left over harms nothing.
        let _ignored = fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn a_program_reaches_what_is_granted_and_nothing_else() {
    let internet = Internet::new("egress");
    let hosts = "[\"tls://api.example.org:443\", \"http://web.example.org:80\", \"tls://inwards.example.org:443\", \
                 \"tls://meta.example.org:443\"]";
    internet.manifest("out", hosts, "[]", "way_out.py", "");
    let dir = internet.dir.display();
    let job = format!(
        "octant agent spawn --wait {dir}/out.signed.json; octant agent logs out; octant egress log out; \
         octant agent why out --manifest {dir}/out.toml; octant ledger verify"
    );
    let outcome = internet.up(&job);
    let heard = internet.heard();
    ended(
        &outcome,
        0,
        &[
            "granted: hello from api.example.org",
            "granted: hello from web.example.org",
            "way out: all denied",
        ],
    );
    assert!(!outcome.1.contains("GOT OUT"), "{}", outcome.1);
    let granted = outcome.1.lines().filter(|line| line.starts_with("granted: ")).count();
    assert_eq!(granted, 7, "{}", outcome.1);
    assert!(!heard.contains("canary") && !heard.contains("evil"), "{heard}");
    for name in ["api.example.org", "web.example.org", "inwards.example.org"] {
        assert!(heard.contains(&format!("dns {name} ")), "{heard}");
    }
    // On record: what was let through, with what went through, and what was denied.
    let why = [
        "evil.example.net:443 (",
        ": the gate: no grant names evil.example.net",
        "manifest: network.hosts, line ",
        " tls://evil.example.net:443 --for TIME",
    ];
    for word in ["rule=tls://api.example.org:443", "bytes_in="].iter().chain(&why) {
        assert!(outcome.1.contains(word), "no {word:?} in {}", outcome.1);
    }
}

#[test]
fn a_lease_is_cut_while_it_is_used_and_a_gate_that_dies_lets_nothing_through() {
    let internet = Internet::new("lease");
    internet.manifest("drip", "[\"tls://api.example.org:443\"]", "[]", "drip.py", "");
    let dir = internet.dir.display();
    let job = format!(
        "set -e\n\
         until_says() {{ n=0; while ! octant agent logs drip | grep -q \"$1\"; do n=$((n+1)); [ $n -lt 300 ]; sleep 0.1; done; }}\n\
         octant agent spawn {dir}/drip.signed.json\n\
         until_says 'not lent'\n\
         octant egress preview drip https://slow.example.org/\n\
         octant egress lease drip tls://slow.example.org:443 --for 5min --reason 'a test' > lease; cat lease\n\
         octant egress preview drip https://slow.example.org/\n\
         until_says 'drips'\n\
         octant egress list drip\n\
         octant egress revoke drip $(sed 's/^lease \\([0-9a-f]*\\) .*/\\1/' lease)\n\
         until_says 'cut 1'\n\
         octant egress lease drip tls://slow.example.org:443 --for 5min --reason 'a test'\n\
         until_says 'drips again'\n\
         octant service restart egress\n\
         until_says 'cut 2'\n\
         until_says 'granted after the restart'\n\
         octant agent kill drip; octant egress list; octant ledger verify; octant ledger query --kind command\n\
         echo lease: done"
    );
    let outcome = internet.up(&job);
    ended(
        &outcome,
        0,
        &["would be denied", "would be let through by lease", "connections cut: 1", "lease: done"],
    );
    assert!(internet.heard().matches("cut slow.example.org").count() >= 2, "{}", internet.heard());
}

/// What no file, variable or line of the workstation has.
const SECRET: &str = "ghp_5f0c6d3e-the-real-one";

#[test]
fn a_program_calls_an_api_with_a_secret_that_only_the_vault_has() {
    let internet = Internet::new("inject");
    let hosts = "[\"tls://api.example.org:443\", \"http://web.example.org:80\"]";
    let backwards: String = SECRET.chars().rev().collect();
    let grants = "[\"use prod/api at api.example.org\"]";
    internet.manifest("api", hosts, grants, "api.py", &format!(", \"{backwards}\""));
    internet.write("secret", SECRET);
    let dir = internet.dir.display();
    let job = format!(
        "set -e\n\
         echo 'correct horse battery' | octant vault init --passphrase\n\
         octant vault put prod/api --from {dir}/secret; rm {dir}/secret\n\
         octant vault grant prod/api --to manifest-file:{dir}/api.signed.json --mode use --host api.example.org --reason test\n\
         until_says() {{ n=0; while ! octant agent logs api | grep -q \"$1\"; do n=$((n+1)); [ $n -lt 300 ]; sleep 0.1; done; }}\n\
         octant agent spawn {dir}/api.signed.json\n\
         until_says 'waits for another gate'\n\
         gates() {{ for p in /proc/[0-9]*; do if grep -q egress $p/cmdline 2>/dev/null && ! grep -q spawn $p/cmdline; \
         then echo ${{p#/proc/}} $(grep PPid $p/status); fi; done; }}\n\
         gates > old; cat old\n\
         kill -9 $(grep 'PPid: 1$' old | cut -d ' ' -f 1)\n\
         until_says 'after the restart'\n\
         for p in $(cut -d ' ' -f 1 old); do if [ -d /proc/$p ]; then echo $p is left; fi; done\n\
         echo processes of the gate that was killed: $(grep -c PPid old)\n\
         octant agent logs api; octant egress log api; octant agent why api; octant ledger query; octant ledger verify\n\
         echo inject: done"
    );
    let outcome = internet.up(&job);
    let heard = internet.heard();
    let masked = "*".repeat(SECRET.len());
    ended(
        &outcome,
        0,
        &[
            "placeholder: octs_",
            "hello: (200, 'hello from api.example.org')",
            &format!("mirror: (200, 'Bearer {masked}', 'Bearer {masked}')"),
            "misplaced: 403",
            "canary: 403",
            "others: 403",
            "found: []",
            "looked: True",
            "processes of the gate that was killed: 3",
            "after the restart: (200, 'hello from api.example.org')",
            "use a secret",
            "the gate: what stands for prod/api is in ",
            "manifest: credentials.grants",
            "inject: done",
        ],
    );
    assert!(heard.contains(&format!("http api.example.org /hello Bearer {SECRET}\n")), "{heard}");
    // The host heard the secret and never what stands for it; everybody else the reverse, or nothing.
    assert_eq!(heard.matches(SECRET).count(), 3, "{heard}");
    assert!(!outcome.1.contains(" is left"), "starter and worker end with their gate: {}", outcome.1);
    assert!(!heard.contains("octs_") && !heard.contains("web.example.org"), "{heard}");
    assert!(!outcome.1.contains(SECRET), "{}", outcome.1);
}

#[test]
fn an_agent_asks_by_its_socket_for_a_host_and_its_budget_ends_to_the_byte() {
    let internet = Internet::new("socket");
    let fields = [
        ("network", "leases", "[\"tls://*.example.org:443\"]"),
        ("network", "bytes", "\"12KiB\""),
        ("approvals", "required", "[\"lease:*\"]"),
    ];
    internet.python("asks", &fields, "agent_socket.py", "");
    let dir = internet.dir.display();
    let key = path("OCTANT_OPERATOR_KEY");
    let key = key.display();
    let job = format!(
        "set -e\n\
         until_says() {{ n=0; while ! octant agent logs asks | grep -q \"$1\"; do n=$((n+1)); [ $n -lt 300 ]; sleep 0.1; done; }}\n\
         octant agent spawn {dir}/asks.signed.json\n\
         until_says 'asked: -32016'\n\
         id=$(octant agent logs asks | sed -n 's/^asked: -32016 //p')\n\
         octant approvals show $id\n\
         octant approvals allow $id --key {key}\n\
         until_says 'more:'\n\
         octant agent logs asks; octant agent budget asks; octant egress list asks\n\
         octant ledger query; octant agent kill asks; octant agent budget asks; octant ledger verify\n\
         echo socket: done"
    );
    let outcome = internet.up(&job);
    ended(
        &outcome,
        0,
        &[
            "tools: self budget note preview borrow return approval",
            "noted: True",
            "elsewhere: -32001",
            "the list of prices",
            "answered: allowed",
            "lent: tls://slow.example.org:443",
            "granted: hello from slow.example.org",
            "given: 12288",
            "spent: 12288 left: 0",
            "more: denied",
            "lend a host",
            "socket: done",
        ],
    );
    assert!(!outcome.1.contains("GOT OUT"), "{}", outcome.1);
    let shown = outcome.1.lines().filter(|line| line.starts_with("network.bytes"));
    let shown: Vec<Vec<&str>> = shown.map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(shown.len(), 2, "{}", outcome.1);
    for row in shown {
        assert_eq!(row, ["network.bytes", "12288", "12288", "0", "0", "0"], "{}", outcome.1);
    }
}

/// An SSH server of a name: its host key, which is made here. Gives the key's fingerprint.
fn ssh_server(internet: &Internet, name: &str) -> String {
    let key = internet.dir.join(format!("{name}.hostkey"));
    let run = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let (file, converted) =
        (key.display().to_string(), internet.dir.join(format!("{name}.dropbear")).display().to_string());
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", &file]);
    run("dropbearconvert", &["openssh", "dropbear", &file, &converted]);
    let public = fs::read_to_string(key.with_extension("hostkey.pub")).unwrap();
    let known = fs::read_to_string(internet.dir.join("known_hosts")).unwrap_or_default();
    internet.write("known_hosts", &format!("{known}{name} {public}"));
    run("ssh-keygen", &["-l", "-f", &file]).split(' ').nth(1).unwrap().to_owned()
}

/// What runs inside: git as it is, and everything that the key is not granted for.
const CLONES: &str = r#"
mkdir -p ~/.ssh && cp DIR/known_hosts ~/.ssh/
git clone -q root@git.example.org:DIR/upstream clone && cat clone/hello
agent() { /octant ssh-agent -- "$@"; }
agent ssh-add -L
agent ssh root@git.example.org exit 7; echo "code $?"
agent ssh -o BatchMode=yes root@other.example.org true; echo "other host $?"
agent ssh -o BatchMode=yes daemon@git.example.org true; echo "other user $?"
echo text > text; ssh-add -L > key.pub 2> /dev/null || agent ssh-add -L > key.pub
agent ssh-keygen -Y sign -n git -f key.pub text; echo "a text $?"
/octant secret sign prod/deploy text; echo "raw $?"
ls -A /tmp; ls ~/.ssh
"#;

#[test]
fn git_clones_over_ssh_with_a_key_that_only_the_vault_has() {
    let internet = Internet::new("ssh");
    let host = ssh_server(&internet, "git.example.org");
    ssh_server(&internet, "other.example.org");
    let dir = internet.dir.display();
    internet.write("clones.sh", &CLONES.replace("DIR", &dir.to_string()));
    let hosts = "[\"tcp://git.example.org:22\", \"tcp://other.example.org:22\"]";
    let grants = format!("[\"ssh prod/deploy to root@git.example.org:22 key {host}\"]");
    let args = format!("[\"{dir}/clones.sh\"]");
    let read = ["clones.sh", "known_hosts"].map(str::to_owned);
    let fields = [("network", "hosts", hosts), ("credentials", "grants", grants.as_str())];
    internet.signed("clones", ["compiler", "/usr/bin/bash", &args], &fields, &read);
    let job = format!(
        "set -e\n\
         echo 'correct horse battery' | octant vault init --passphrase\n\
         octant vault put prod/deploy --kind key-pair --generate\n\
         octant vault show prod/deploy --ssh > {dir}/authorized_keys; cat {dir}/authorized_keys\n\
         octant vault grant prod/deploy --to manifest-file:{dir}/clones.signed.json --mode sign \
           --host git.example.org --reason test\n\
         git init -q {dir}/upstream; cd {dir}/upstream; echo hello over ssh > hello; git add hello\n\
         git -c user.name=a -c user.email=a@example.org commit -q -m one; cd /\n\
         octant agent spawn --wait {dir}/clones.signed.json || true\n\
         octant agent logs clones; octant ledger query; octant ledger verify\n\
         echo ssh: done"
    );
    let outcome = internet.up(&job);
    ended(
        &outcome,
        0,
        &[
            "hello over ssh",
            "prod/deploy\n",
            "code 7",
            "other host 255",
            "other user 255",
            "no grant of the manifest is for root",
            "raw 5",
            "ssh: done",
        ],
    );
    assert!(!outcome.1.contains("a text 0"), "{}", outcome.1);
    let log = |name: &str| fs::read_to_string(internet.dir.join(format!("{name}.log"))).unwrap();
    assert_eq!(log("git.example.org").matches("Pubkey auth succeeded for 'root'").count(), 2);
    assert!(!log("other.example.org").contains("succeeded"), "{}", log("other.example.org"));
}

/// What runs inside: psql as it is, and everything that the password is not granted for.
const ASKS: &str = r#"
at="host=db.example.org user=app dbname=postgres"
strict="sslmode=verify-full sslrootcert=$SSL_CERT_FILE"
psql -w "$at $strict" -tAc "select 'hello ' || current_user || ', in TLS ' || ssl from pg_stat_ssl where pid = pg_backend_pid()"
psql -w "$at sslmode=disable" -tAc "select 'six times seven is ' || 6 * 7"
psql -w "$at sslmode=require" -tAc "select 'a lot: ' || sum(n) from generate_series(1, 100000) n"
psql -w "host=db.example.org user=root dbname=postgres $strict" -c "select 1"; echo "other user $?"
psql -w "host=db.example.org user=app dbname=template1" -c "select 1"; echo "other database $?"
(sleep 1; pkill -INT -x psql) & psql -w "$at $strict" -c "select pg_sleep(100)"; echo "cancelled $?"
found=$(grep -lsa correct-horse-battery /proc/[0-9]*/environ; grep -rls correct-horse-battery ~ /tmp /run; env | grep correct-horse)
echo "found: [$found]"
"#;

#[test]
fn psql_logs_in_with_a_password_that_only_the_vault_has() {
    let internet = Internet::new("postgres");
    let dir = internet.dir.display();
    internet.write("db.example.org.postgres", &path("OCTANT_POSTGRES").display().to_string());
    internet.write("db.example.org.password", "correct-horse-battery");
    internet.write("asks.sh", ASKS);
    let args = format!("[\"{dir}/asks.sh\"]");
    let grants = "[\"postgres prod/db to app@db.example.org:5432/postgres\"]";
    let fields = [("network", "hosts", "[\"tls://db.example.org:5432\"]"), ("credentials", "grants", grants)];
    internet.signed("asks", ["compiler", "/usr/bin/bash", &args], &fields, &["asks.sh".to_owned()]);
    let job = format!(
        "set -e\n\
         echo 'correct horse battery' | octant vault init --passphrase\n\
         printf correct-horse-battery | octant vault put prod/db\n\
         octant vault grant prod/db --to manifest-file:{dir}/asks.signed.json --mode use \
           --host db.example.org --reason test\n\
         octant agent spawn --wait {dir}/asks.signed.json || true\n\
         octant agent logs asks; octant egress log asks; octant ledger verify\n\
         echo postgres: done"
    );
    let outcome = internet.up(&job);
    ended(
        &outcome,
        0,
        &[
            "hello app, in TLS true",
            "six times seven is 42",
            "a lot: 5000050000",
            "octant: no grant logs root in at db.example.org to the database postgres",
            "other user 2",
            "no grant logs app in at db.example.org to the database template1",
            "other database 2",
            "canceling statement due to user request",
            "cancelled 1",
            "found: []",
            "secret=prod/db",
            "database=postgres",
            "postgres: done",
        ],
    );
    assert!(!outcome.1.contains("correct-horse-battery"), "{}", outcome.1);
}

/// Twelve random bytes, as a text that was nowhere before.
pub(crate) fn random() -> String {
    let mut bytes = [0; 12];
    octant_sys::entropy::fill_seeded(&mut bytes).unwrap();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A line for the hunt.
pub(crate) fn wanted(name: &str, text: &str) -> String {
    let turned: String = text.bytes().map(|byte| format!("{:02x}", !byte)).collect();
    format!("{name} {turned}\n")
}

/// Every command that shows an operator something of an agent, a secret or the machine.
const ANSWERS: &str = "octant --json status; octant agent list --all; octant egress list; octant egress log hunted; \
    octant --json ledger query; octant ledger tail -n 500; octant vault list; octant vault show prod/api; octant vault leases; \
    octant approvals list; octant trust list; octant workspace list; octant egress preview hunted https://api.example.org/; \
    for a in hunted beside; do for c in show authority budget why logs; do octant agent $c $a; octant --json agent $c $a; done; done";

/// What the hunt found of a text: the kinds of places.
pub(crate) fn found<'a>(hunted: &'a str, name: &str) -> Vec<&'a str> {
    let of_line = |line: &'a str| line.strip_prefix(&format!("found {name} in "))?.split_once(": ");
    hunted.lines().filter_map(of_line).map(|(kind, _)| kind).collect()
}

#[test]
fn a_secret_that_was_used_is_nowhere_to_be_found() {
    let internet = Internet::new("hunt");
    let secret = format!("s-{}+/\"=\\", random());
    let [other, mark] = ["o", "m"].map(|letter| format!("{letter}-{}", random()));
    let hosts = "[\"tls://api.example.org:443\"]";
    let args = format!(", {mark:?}");
    internet.manifest("hunted", hosts, "[\"use prod/api at api.example.org\"]", "hunted.py", &args);
    internet.manifest("beside", hosts, "[\"use prod/other at api.example.org\"]", "beside.py", "");
    let texts = [("secret", &secret), ("other", &other), ("mark", &mark)];
    internet.write("wanted", &texts.map(|(name, text)| wanted(name, text)).concat());
    internet.write("api", &secret);
    internet.write("other", &other);
    let (dir, state) = (internet.dir.display(), internet.instance.dir());
    let hunt = guest_files().join("../python/hunt.py");
    let hunt = format!("python3 -B {} {dir}/wanted {} < {dir}/answers", hunt.display(), state.display());
    let job = format!(
        "set -e\n\
         answers() {{ ( {ANSWERS}; ) > {dir}/answers 2>&1 || true; }}\n\
         uses() {{ octant vault put prod/$1 --from {dir}/$1; rm {dir}/$1; octant vault grant prod/$1 --reason test \
           --to manifest-file:{dir}/$2.signed.json --mode use --host api.example.org; octant agent spawn {dir}/$2.signed.json\n\
         n=0; while ! octant agent logs $2 | grep -q 'stands still'; do n=$((n+1)); [ $n -lt 600 ]; sleep 0.1; done; }}\n\
         echo 'correct horse battery' | octant vault init --passphrase\n\
         uses api hunted; uses other beside; octant agent logs hunted; octant agent logs beside\n\
         answers; {hunt}; echo first: done\n\
         for p in /proc/[0-9]*; do if grep -q ^curl $p/cmdline 2> /dev/null; then kill -ABRT ${{p#/proc/}}; fi; done\n\
         sleep 1; for p in /proc/[0-9]*; do if grep -q 'hunted[.]py' $p/cmdline; then ls $p/root/workspace $p/root/tmp; fi; done \
           | sed 's/^core/left: core/'\n\
         octant agent kill hunted; octant agent kill beside\n\
         answers; {hunt}; octant ledger verify; echo second: done"
    );
    let outcome = internet.up(&job);
    ended(&outcome, 0, &["first: done", "second: done"]);
    assert!(outcome.1.contains("body--http2-cut") && !outcome.1.contains("left: "), "{}", outcome.1);
    // The host heard it in every request, and gave it back.
    assert!(internet.heard().matches(&secret).count() > 21, "{}", internet.heard());
    for answered in ["headers 200 4", "error 500 1", "compressed 502 0", "cut 200 1"] {
        assert!(outcome.1.contains(&format!("python: {answered}\n")), "{answered}: {}", outcome.1);
    }
    let (first, second) = outcome.1.split_once("first: done").unwrap();
    // Whatever is left somewhere is found: what was not secret is, wherever it stays for certain. A service's memory is looked
    // through as the agent's is, and may have been used for something else since.
    let of_mark = found(first, "mark");
    let kinds = ["answers", "state files", "agent memory", "agent files", "agent environ", "agent cmdline"];
    for kind in kinds {
        assert!(of_mark.contains(&kind), "nothing in {kind}: {}", outcome.1);
    }
    // A secret is in its own agent's worker, while a request has it, and nowhere else; without the agent it is nowhere.
    let worker = of_mark.iter().find(|kind| kind.starts_with("worker ")).unwrap();
    assert_eq!(found(first, "secret"), [*worker], "{}", outcome.1);
    let beside = found(first, "other");
    assert!(beside.iter().all(|kind| kind.starts_with("worker ") && kind != worker), "{}", outcome.1);
    assert!(found(second, "secret").is_empty() && found(second, "other").is_empty(), "{}", outcome.1);
}

/// What a server of repositories wants to hear.
const PASSWORD: &str = "the-password-of-git";

/// What the clients need: packages, a repository, secrets for the vault, a signed manifest.
fn with_clients(internet: &Internet) {
    let dir = internet.dir.display().to_string();
    let out = |command: &mut Command| {
        let output = command.output().unwrap_or_else(|e| panic!("{e}"));
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    // Where agents may read: the build's own directory may be one of theirs.
    let packages = "import httpx, os; print(os.path.dirname(os.path.dirname(httpx.__file__)))";
    let packages = out(Command::new(path("OCTANT_PYTHON")).args(["-c", packages]));
    out(Command::new("cp").args(["-r", &packages, &format!("{dir}/site")]));
    let repository = format!(
        "git init -q {dir}/made && cd {dir}/made && echo hello > hello && git add hello && \
         git -c user.name=a -c user.email=a@example.org commit -q -m one && \
         git clone -q --bare {dir}/made {dir}/repositories/one.git"
    );
    out(Command::new("sh").args(["-c", &repository]));
    let script = guest_files().join("../python/clients.py");
    fs::copy(&script, internet.dir.join("clients.py"))
        .unwrap_or_else(|e| panic!("{}: {e}", script.display()));
    for (name, text) in [("api", SECRET), ("code", PASSWORD), ("password", PASSWORD)] {
        internet.write(name, text);
    }
    let names = ["api", "slow", "code"].map(|name| format!("\"tls://{name}.example.org:443\""));
    let hosts = format!("[{}, \"http://web.example.org:80\"]", names.join(", "));
    let grants = "[\"use prod/api at api.example.org\", \"use prod/code at code.example.org in basic git\"]";
    let fields = [("network", "hosts", hosts.as_str()), ("credentials", "grants", grants)];
    let args = format!("[\"-u\", \"{dir}/clients.py\", \"{dir}/ca.pem\", \"{dir}/site\"]");
    let read = ["clients.py", "ca.pem", "site"].map(str::to_owned);
    internet.signed("clients", ["compiler", "/usr/bin/python3", &args], &fields, &read);
}

/// What clients said, by the begin of a line.
fn line<'a>(said: &'a str, start: &str) -> &'a str {
    let found = said.lines().find_map(|line| line.strip_prefix(start));
    found.unwrap_or_else(|| panic!("no {start}: {said}"))
}

/// Whether a client got everything that it may have, in this version of HTTP, and was told what it may not.
fn client_did(said: &str, client: &str, version: &str) {
    for (case, version, body) in [
        ("get", version, "hello from api.example.org"),
        ("post", version, "what is posted"),
        ("plain", version, "hello from api.example.org"),
        ("other", "1.1", "hello from slow.example.org"),
        ("http", "1.1", "hello from web.example.org"),
        ("proxied", version, "what is posted"),
    ] {
        // Node's own fetch knows no variable for a proxy.
        if (client, case) != ("node", "proxied") {
            assert_eq!(line(said, &format!("{client} {case}: ")), format!("{version} 200 {body}"));
        }
    }
    // A name that is not granted does not exist, and nobody is told to try again.
    let refused = line(said, &format!("{client} refused: error: "));
    let says = [
        "Could not resolve host: evil.example.net",
        "Name or service not known",
        "ENOTFOUND evil.example.net",
    ];
    assert!(says.iter().any(|says| refused.contains(says)), "{client}: {refused}");
    let by_proxy = match client {
        "node" => return,
        "curl" | "curl2" => "CONNECT tunnel failed, response 403",
        _ => "403 octant: no grant names evil.example.net",
    };
    let refused = line(said, &format!("{client} proxy-refused: error: "));
    assert!(refused.contains(by_proxy), "{client}: {refused}");
}

#[test]
fn clients_as_they_are_use_secrets_and_say_what_is_refused() {
    let internet = Internet::new("clients");
    with_clients(&internet);
    let dir = internet.dir.display();
    let job = format!(
        "set -e\n\
         echo 'correct horse battery' | octant vault init --passphrase\n\
         for s in api code; do octant vault put prod/$s --from {dir}/$s; rm {dir}/$s; octant vault grant prod/$s \
         --to manifest-file:{dir}/clients.signed.json --mode use --host $s.example.org --reason test; done\n\
         octant agent spawn --wait {dir}/clients.signed.json || true\n\
         octant agent logs clients; octant agent why clients; octant egress log clients; octant ledger verify\n\
         echo clients: all"
    );
    let outcome = internet.up(&job);
    ended(&outcome, 0, &["clients: done", "clients: all"]);
    let said = outcome.1.as_str();
    let versions = [
        ("curl", "1.1"),
        ("curl2", "2"),
        ("requests", "1.1"),
        ("httpx", "1.1"),
        ("httpx2", "2"),
        ("node", "1.1"),
    ];
    versions.into_iter().for_each(|(client, version)| client_did(said, client, version));
    assert_eq!(line(said, "curl socks: "), "1.1 200 hello from api.example.org");
    assert!(line(said, "curl socks-refused: error: ").contains("to evil.example.net. (2)"), "{said}");
    for (case, got) in [("clone", "0 "), ("push", "0 "), ("proxied", "0 "), ("same", "0 another one")] {
        assert_eq!(line(said, &format!("git {case}: ")), got);
    }
    assert!(line(said, "git refused: ").contains("Could not resolve host: evil.example.net"));
    assert!(line(said, "git proxy-refused: ").contains("CONNECT tunnel failed, response 403"));
    let heard = internet.heard();
    // Each of six clients sent it twice, five of them once more by the proxy, and one by SOCKS.
    assert_eq!(heard.matches(&format!("Bearer {SECRET}\n")).count(), 18, "{heard}");
    assert!(heard.contains("git POST /one.git/git-receive-pack\n") && !heard.contains("octs_"), "{heard}");
    assert!(!said.contains(SECRET) && !said.contains(PASSWORD), "{said}");
}

/// What a person has: a program that reaches out, manifests for it, and what is done with them.
const PERSON: &str = r#"
set -e
cd HOME/project
octant() { DIR/octant "$@"; }
gates() { for p in /proc/[0-9]*; do if grep -qz ^egress$ $p/cmdline; then echo ${p#/proc/}; fi; done 2> /dev/null; }
none() { n=0; while [ -n "$(gates)" ]; do n=$((n+1)); [ $n -lt 100 ]; sleep 0.1; done; echo "$1: none left"; }
octant manifest new out --operator tester --profile python --workspace . -- python3 out.py > plain.toml
sed 's|^hosts = .*|hosts = ["tls://api.example.org:443", "http://web.example.org:80"]|' plain.toml > out.toml
run() { octant run --accept-missing=cgroup --manifest "$@"; }
run out.toml -- python3 out.py; echo "code $?"
none ended
run out.toml -- python3 out.py one > one & run out.toml -- python3 out.py two > two; wait; cat one two
sed 's|^hosts = .*|hosts = ["tls://api.example.org:443"]|; s|^grants = .*|grants = ["use prod/api at api.example.org"]|' plain.toml > secret.toml
run secret.toml || echo "secret $?"
run plain.toml -- python3 out.py plain
DIR/octant run --accept-missing=cgroup --manifest out.toml -- python3 out.py waits > waits & started=$!
n=0; until grep -q ^waits$ waits 2> /dev/null; do n=$((n+1)); [ $n -lt 300 ]; sleep 0.1; done
[ -n "$(gates)" ] && echo "a gate of its own"
kill -9 $started; wait $started || echo "killed $?"
run plain.toml -- true; none killed
octant run --accept-missing=cgroup --manifest out.toml -- python3 out.py cut > cut & started=$!
n=0; until grep -q ^waits$ cut 2> /dev/null; do n=$((n+1)); [ $n -lt 300 ]; sleep 0.1; done
kill -9 $(gates); touch go; wait $started; echo "cut $?"; cat cut
octant ledger verify HOME/.local/state/octant/run > /dev/null && echo verifies
cat HOME/.local/state/octant/run/ledger/segments/*
"#;

/// What came of it for this user.
fn by_a_person(internet: &Internet, user: u32) -> Said {
    let (dir, home) = (internet.dir.display(), internet.dir.join("home"));
    for place in ["project", ".config/octant"] {
        fs::create_dir_all(home.join(place)).unwrap_or_else(|e| panic!("{place}: {e}"));
    }
    let copy = |from: &Path, to: &str| {
        fs::copy(from, internet.dir.join(to)).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
    };
    copy(&internet.instance.dir().join("etc/octant.toml"), "home/.config/octant/octant.toml");
    copy(&internet.dir.join("ca.pem"), "home/project/ca.pem");
    copy(&guest_files().join("../python/out.py"), "home/project/out.py");
    copy(&binary(), "octant");
    let script = PERSON.replace("DIR", &dir.to_string()).replace("HOME", &home.display().to_string());
    internet.write("person.sh", &script);
    let owner = format!("{user}:{user}");
    Command::new("chown").args(["-R", &owner]).arg(&home).status().unwrap();
    let mut command = internet.beside();
    let user = user.to_string();
    command.args(["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"]);
    command.args(["env", "-i", "PATH=/usr/bin:/bin", "USER=tester"]);
    for (name, place) in [("HOME", ""), ("XDG_CONFIG_HOME", ".config"), ("XDG_STATE_HOME", ".local/state")] {
        command.arg(format!("{name}={}", home.join(place).display()));
    }
    crate::exports::said(command.arg("sh").arg(internet.dir.join("person.sh")))
}

#[test]
fn a_person_runs_a_program_that_reaches_what_its_manifest_names() {
    for user in [0, 65_534] {
        let internet = Internet::new(&format!("person-{user}"));
        let outcome = by_a_person(&internet, user);
        ended(
            &outcome,
            0,
            &[
                "code 0",
                "ended: none left",
                "secret 6",
                "credentials.grants needs the vault",
                "plain https://api.example.org/hello: denied: ",
                "a gate of its own",
                "killed 137",
                "cut 0",
                "without its gate the program reached nothing any more",
                "killed: none left",
                "verifies",
                "\"end\":\"closed\"",
                "its run was found dead",
            ],
        );
        // Each alone, two at once beside each other, and the one that is killed; on record in the one ledger.
        assert!(!outcome.1.contains("after https://api.example.org/hello: hello"), "{}", outcome.1);
        assert_eq!(outcome.1.matches("\nafter http").count(), 4, "{}", outcome.1);
        for word in ["alone", "one", "two", "cut"] {
            for line in [
                "https://api.example.org/hello: hello from api.example.org",
                "http://web.example.org/hello: hello from web.example.org",
                "https://evil.example.net/: denied: ",
                "http://11.0.0.5/: denied: ",
            ] {
                assert!(outcome.1.contains(&format!("{word} {line}")), "{word} {line}: {}", outcome.1);
            }
        }
        let intents = outcome.1.matches("\"rule\":\"tls://api.example.org:443\"").count();
        assert_eq!(intents, 5, "{}", outcome.1);
        assert!(!internet.heard().contains("evil"), "{}", internet.heard());
    }
}
