//! An operator at a serial console, with nothing else on the machine.

use crate::boot::with_data;
use octant_tests::cpio::without;
use octant_tests::environment::{Scratch, path};
use octant_tests::guest::{Boot, Guest};
use std::path::Path;

/// A step that takes longer hangs. It says nothing about how long one may take.
const STUCK_S: u64 = 180;
/// Without the machine's name, which the session changes.
const PROMPT: &str = ":~# ";
const PASSPHRASE: &str = "correct horse";

/// Somebody at the other end of the serial line.
struct Person {
    guest: Guest,
}

impl Person {
    fn sees(&mut self, text: &str) -> String {
        self.guest.sees(text, STUCK_S)
    }

    /// Answers a question.
    fn answers(&mut self, question: &str, answer: &str) {
        self.sees(question);
        self.guest.type_line(answer);
    }

    fn logs_in(&mut self, name: &str) -> String {
        self.answers("octant login: ", name);
        self.answers("passphrase (Enter for a key): ", PASSPHRASE);
        self.sees("ledger: checkpoint of ")
    }

    /// Runs a command at the prompt; what it shows and how it ends.
    fn tries(&mut self, command: &str) -> (String, String) {
        self.sees(PROMPT);
        // The quotes keep what is awaited out of the echo of what is typed.
        self.guest.type_line(&format!("{command}; echo \"ex\"it=$?."));
        let shown = self.sees("exit=");
        (shown, self.sees("."))
    }

    /// The same of one that ends well.
    fn runs(&mut self, command: &str) -> String {
        let (shown, code) = self.tries(command);
        assert_eq!(code, "0.", "{command}\n{shown}\nThe session:\n{}", self.guest.log.join("\n"));
        shown
    }

    /// Runs one whose output has to have all of these in it.
    fn finds(&mut self, command: &str, wanted: &[&str]) -> String {
        let shown = self.runs(command);
        for text in wanted {
            assert!(shown.contains(text), "{command} does not say {text:?}:\n{shown}");
        }
        shown
    }

    fn reboots(mut self) -> Vec<String> {
        self.sees(PROMPT);
        self.guest.type_line("reboot");
        self.guest.until_off(STUCK_S);
        std::mem::take(&mut self.guest.log)
    }
}

/// Boots a machine that nobody owns: of the image all but its operator's key.
fn at_the_console(scratch: &Scratch, initrd: &Path, data: &(String, &'static str)) -> Person {
    let append = "octant.console=login";
    let boot =
        Boot { append, initrd: Some(initrd), network: true, data: Some(data.clone()), ..Boot::default() };
    Person { guest: Guest::boot(&scratch.path(""), &boot) }
}

#[test]
fn an_operator_lives_at_the_serial_console() {
    let scratch = Scratch::new("session");
    let (data, initrd) = (with_data(&scratch), scratch.path("unowned.cpio"));
    let image = std::fs::read(path("OCTANT_INITRD")).unwrap_or_else(|e| panic!("the image: {e}"));
    std::fs::write(&initrd, without(&image, "etc/octant/trusted/operator.pub"))
        .unwrap_or_else(|e| panic!("{}: {e}", initrd.display()));
    let mut person = at_the_console(&scratch, &initrd, &data);
    owns_the_machine(&mut person);
    connects_it(&mut person);
    meets_a_misbehaving_agent(&mut person);
    let entries = reads_the_ledger(&mut person);
    configures_it(&mut person);
    let first = person.reboots().join("\n");
    let mut person = at_the_console(&scratch, &initrd, &data);
    person.logs_in("alice");
    is_as_configured(&mut person);
    person.runs("octant ledger verify");
    let after =
        person.finds("octant ledger query --kind command --limit 1000", &["kill grace_ms=0", "reboot"]);
    assert!(after.matches("login: alice").count() >= 2, "{after}");
    person.runs(&format!("octant ledger show {entries}"));
    let second = person.reboots().join("\n");
    for (text, boot) in [(&first, 1), (&second, 2)] {
        assert!(!text.contains(PASSPHRASE), "boot {boot}: a passphrase is shown:\n{text}");
        assert!(!text.contains("Kernel panic"), "boot {boot}:\n{text}");
    }
}

fn owns_the_machine(person: &mut Person) {
    person.answers("your name (a-z, 0-9, -): ", "alice");
    person.answers("new passphrase: ", PASSPHRASE);
    person.answers("the same again: ", PASSPHRASE);
    person.answers("make the vault now? [Y/n] ", "");
    for question in ["new passphrase: ", "the same passphrase again: "] {
        person.answers(question, "battery staple");
    }
    person.logs_in("alice");
    person.finds("octant status", &["octant is running", "unsealed by passphrase"]);
    let doctor = person.finds("octant doctor", &["throw-away agent", "ledger verify"]);
    assert!(!doctor.contains("broken"), "{doctor}");
    person.finds("octant trust list", &["alice     admin"]);
    person.finds("ls /var/lib/octant/trusted", &["alice.pub"]);
    person.finds("stat -c %a /", &["755"]);
}

/// Writes the network's configuration in the editor, and sees it come up.
fn connects_it(person: &mut Person) {
    let (before, _) = person.tries("octant network status");
    assert!(before.contains("write [network] into /etc/octant/octant.toml"), "{before}");
    person.sees(PROMPT);
    person.guest.type_line("vi /etc/octant/octant.toml");
    person.sees(" lines");
    person.guest.type_keys("Go[network]\u{1b}");
    person.sees("[+]");
    person.guest.type_keys(":wq\r");
    person.finds("octant config check", &["unit network"]);
    person.runs("octant reexec");
    person.runs("octant health --wait 120s");
    person.runs("until octant network status | grep -q 10.0.2.15; do sleep 1; done");
    person.finds("ip addr show eth0", &["10.0.2.15/24"]);
    person.finds("ping -c 1 10.0.2.2", &["1 received"]);
    person.finds("octant status", &["network", "octant is running"]);
}

/// Edits a configuration of the machine, signs it with the key of the first boot, and puts it in force.
fn configures_it(person: &mut Person) {
    person.runs("octant config new >machine.toml");
    person.sees(PROMPT);
    person.guest.type_line("vi machine.toml");
    person.sees(" lines");
    person.guest.type_keys("Go[network.links.eth0]\raddresses = [\"10.0.2.77/24\"]\u{3}");
    person.guest.type_keys(":%s/# hostname/hostname/\r:wq\r");
    person.finds("octant config check machine.toml", &["serial 1, in order; next: octant config sign"]);
    person.runs("octant config sign machine.toml --key /var/lib/octant/console/alice.key -o machine.json");
    person.finds("octant config check machine.json", &["signed by alice"]);
    person.finds("octant config diff machine.json", &["hostname", "edge-1", "10.0.2.77"]);
    person.finds("octant config apply --wait 150s machine.json", &["configuration 1 is in force"]);
    has_the_configuration(person);
}

fn has_the_configuration(person: &mut Person) {
    let by = ["in force: configuration 1\r", "signed by: alice, key "];
    let shown = person.finds("octant config show", &by);
    assert!(!shown.contains("last trouble"), "{shown}");
    person.finds("hostname", &["edge-1"]);
    person.runs("until ip addr show eth0 | grep -q 10.0.2.77/24; do sleep 1; done");
    person.finds("ping -c 1 10.0.2.2", &["1 received"]);
}

/// `/etc` is the image's again: whose the machine is and how it was configured is on its disk.
fn is_as_configured(person: &mut Person) {
    person.runs("octant health --wait 120s");
    has_the_configuration(person);
    person.finds("octant trust list", &["alice     admin"]);
    let grants = person.finds("octant --json ledger query --kind grant --limit 1000", &["added"]);
    assert!(!grants.contains("removed"), "the machine forgot its owner meanwhile:\n{grants}");
    // What its owner signs counts as before.
    person.runs("octant config show --text 0 | sed 's/^serial = 1 /serial = 2 /' >next.toml");
    person.runs("octant config sign next.toml --key /var/lib/octant/console/alice.key -o next.json");
    person.finds("octant config check next.json", &["serial 2, signed by alice"]);
}

/// An agent that reads what it may not, reaches where it may not, and burns what it may.
const CRAWLER: &str =
    "cat /etc/shadow; fetch http://evil.example.org/; mount -t tmpfs x /tmp; while :; do :; done";

fn meets_a_misbehaving_agent(person: &mut Person) {
    person.runs(&format!(
        "octant manifest new crawler --operator alice -- /bin/sh -c \"{CRAWLER}\" >crawler.toml"
    ));
    person.runs(
        "sed -i -e '/^hosts/s/\\[\\]/[\"tls:\\/\\/api.example.org:443\"]/' -e 's/\"cat\"\\]/\"cat\", \"fetch\", \"mount\"]/' crawler.toml",
    );
    person.finds("octant manifest check crawler.toml", &["tls://api.example.org:443", "fetch"]);
    person.runs("octant manifest sign crawler.toml --key /var/lib/octant/console/alice.key -o crawler.json");
    person.finds("octant agent spawn crawler.json", &["agent-"]);
    person.runs("until octant agent logs crawler 2>&1 | grep -q mount:; do sleep 1; done");
    person.finds("octant agent list", &["running", "crawler"]);
    looks_at_all(person);
    let why = ["the system call mount", "evil.example.org"];
    person.finds("octant agent why crawler --manifest crawler.toml", &why);
    person.finds("octant agent logs crawler", &["/etc/shadow: No such file or directory"]);
    person.finds("octant logs agents", &["crawler"]);
    person.finds("octant agent kill crawler", &["ended by an operator"]);
    person.finds("octant agent list --all", &["signal 9", "crawler"]);
}

/// One screen of `octant top`, with what the agent burns.
fn looks_at_all(person: &mut Person) {
    person.sees(PROMPT);
    person.guest.type_line("octant top");
    person.sees("q: quit");
    loop {
        person.sees("crawler ");
        let row = person.sees("-");
        // Until it was seen twice nobody knows how much that is.
        if row.split_whitespace().nth(2).is_some_and(|cpu| cpu.parse::<f64>().is_ok()) {
            break;
        }
    }
    person.guest.type_keys("q");
}

/// What happened is on record; the number of the kill.
fn reads_the_ledger(person: &mut Person) -> u64 {
    let commands = person.finds("octant ledger query --kind command --limit 1000", &["kill grace_ms=0"]);
    let kill = commands.lines().find(|line| line.contains("kill grace_ms=0")).unwrap_or_default();
    let number = kill.split_whitespace().next().and_then(|number| number.parse().ok());
    let number: u64 = number.unwrap_or_else(|| panic!("{kill:?} has no number"));
    person.finds(&format!("octant ledger show {number}"), &["kind        command", "operator:0"]);
    person.finds("octant ledger query --kind decision", &["denied"]);
    person.finds("octant ledger verify", &[" verify; the last one is"]);
    number
}
