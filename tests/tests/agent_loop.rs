//! The agent loop in a workstation, with the router and the tests' double as its model.

use crate::namespace::{Instance, ended};
use octant_tests::agents::{Agent, sign};
use octant_tests::environment::path;
use octant_tests::upstream::{Upstream, agent_result};

const MODEL: &str = "double/agent-in3000";
const TASK: &str = "What is six times seven, and what is its digest?";
/// Ended without a chance to say anything, while it waits for an operator; then it is begun again.
const KILLED: &str = "octant agent loop --model double/agent-in3000 & \
    until grep -q '\"entry\":\"waits\"' .octant/transcript.jsonl; do sleep 0.1; done; \
    kill -9 $!; wait; echo killed; exec octant agent loop --model double/agent-in3000";

/// An agent's manifest, signed, with what it has of models and what an operator is asked for.
fn agent(instance: &Instance, name: &str, args: &str, tokens: u64, required: &str) -> String {
    let program = if args.starts_with("\"-c\"") { "/bin/sh" } else { "/bin/octant" };
    let models = format!("allowed = [\"double/*\"]\ntokens = {tokens}\nspend_usd = 1");
    let utilities = r#", "octant", "sha256sum""#;
    let agent = Agent { name, program, args, read: "", utilities, models: &models, ..Agent::USUAL };
    let text = agent.manifest("operator").replace("required = []", &format!("required = [{required}]"));
    let (source, envelope) = (format!("files/{name}.toml"), format!("files/{name}.signed.json"));
    instance.write(&source, text.as_bytes());
    let envelope = instance.dir().join(envelope);
    sign(&instance.dir().join(source), &envelope);
    envelope.display().to_string()
}

#[test]
fn a_loop_works_waits_for_an_operator_goes_on_after_a_kill_and_ends_at_its_budget() {
    let instance = Instance::new("loop");
    let upstream = Upstream::start(([127, 0, 0, 1], 0).into()).unwrap_or_else(|why| panic!("{why}"));
    let config = format!(
        "[[provider]]\nname = \"double\"\nbase = \"http://{}/v1\"\ndialect = \"chat\"\nauth = \"none\"\n\
         headers = {{ authorization = \"Bearer of-the-double\" }}\nstream_usage = true\nlocal = true\n\
         [[deployment]]\nname = \"agent\"\nprovider = \"double\"\nmodel = \"agent-in3000\"\nwindow = 200000\n\
         max_output = 8192\ncan = [\"tools\", \"parallel_tools\", \"streaming\"]\n\
         price = {{ input = 1000000, output = 2000000 }}\n",
        upstream.address()
    );
    instance.write("etc/router.toml", config.as_bytes());
    let plain = format!("\"agent\", \"loop\", \"--model\", \"{MODEL}\"");
    let shell = r#""tool:shell_run""#;
    let worker = agent(&instance, "worker", &plain, 1_000_000, "");
    let denied = agent(&instance, "denied", &plain, 1_000_000, shell);
    let killed = agent(&instance, "killed", &format!("\"-c\", {KILLED:?}"), 1_000_000, shell);
    let poor = agent(&instance, "poor", &plain, 12_000, "");
    let key = path("OCTANT_OPERATOR_KEY");
    let key = key.display();
    let job = format!(
        "set -e\n\
         next() {{ n=0; while ! octant approvals list | grep waiting | cut -d ' ' -f 1 > asked || ! [ -s asked ]; do\n\
           n=$((n+1)); [ $n -lt 300 ]; sleep 0.1; done; cat asked; }}\n\
         octant agent spawn --wait {worker} --task '{TASK}'; octant agent logs worker\n\
         octant agent spawn {denied} --task '{TASK}'; id=$(next)\n\
         octant approvals show $id; octant approvals deny $id --key {key}; octant agent attach denied\n\
         octant agent spawn {killed} --task '{TASK}'; id=$(next)\n\
         until octant agent logs killed | grep -q 'goes on'; do sleep 0.1; done\n\
         [ $(next) = $id ]; octant approvals allow $id --key {key}\n\
         until octant approvals list --all | grep -q \"$id *used\"; do sleep 0.1; done\n\
         octant approvals allow $(next) --key {key}; octant agent attach killed\n\
         octant approvals list --all | grep -c ' used '\n\
         code=0; octant agent spawn --wait {poor} --task '{TASK}' || code=$?; echo \"poor ended with $code\"\n\
         octant agent logs poor; octant ledger verify; echo loop: done"
    );
    let outcome = instance.accepting(&format!("cd {}; {job}", instance.dir().join("files").display()));
    let done = agent_result();
    let words = [
        "command: echo $((6 * 7))",
        "did not approve tool:shell_run (by operator)",
        "killed\n",
        "[octant] ended, budget",
        "loop: done",
    ];
    ended(&outcome, 0, &words);
    let text = &outcome.1;
    assert_eq!(text.matches(&done).count(), 2, "the worker's, and that of the one that was killed: {text}");
    assert!(text.contains("\n2\n"), "each approval was used once: {text}");
    assert!(!text.contains("poor ended with 0"), "{text}");
    // What was killed has asked once more for nothing that it knew.
    let calls = upstream.calls().len();
    assert!((6 + 2 + 6 + 1..=6 + 2 + 6 + 3).contains(&calls), "{calls} questions: {text}");
}
