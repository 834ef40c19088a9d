//! Models that work with tools: on a task of five calls, each of which needs what the ones before gave back; or on errands, as
//! its user names them.
//!
//! It takes the tools that it is offered: one that runs commands, one that writes files and one that reads them, known by
//! their names, with the arguments that their schemas ask for.

use super::script::{Script, Turn};
use super::{Asked, Refused, Tool, hex};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// What the first step computes.
const PRODUCT: &str = "42";
/// The files of the task.
const FILE: &str = "/workspace/answer.txt";
const REPORT: &str = "/workspace/report.txt";

/// What the task ends with when every step gave what it had to.
#[must_use]
pub fn result() -> String {
    format!("The answer is {PRODUCT}; its digest is {}.", digest())
}

fn digest() -> String {
    hex(&Sha256::digest(PRODUCT))
}

/// The next step, after the results that are there.
pub(super) fn turn(script: &Script, asked: &Asked) -> Result<Turn, Refused> {
    let results: Vec<&str> = asked.results.iter().map(|(_, text)| text.as_str()).collect();
    let expected = ["42", "", "42", &digest(), ""];
    if let Some(at) = results.iter().zip(expected).position(|(result, word)| !result.contains(word)) {
        let said = format!("Step {} gave {:?}, which has no {:?}.", at + 1, results[at], expected[at]);
        return Ok(Turn::text(script, &[said]));
    }
    let step = results.len();
    let (tool, first, second) = match step {
        0 => (find(asked, &["shell", "run", "exec", "bash"])?, "echo $((6 * 7))".to_owned(), None),
        1 => (find(asked, &["write"])?, FILE.to_owned(), Some(word(results[0], PRODUCT.len())?)),
        2 => (find(asked, &["read"])?, FILE.to_owned(), None),
        3 => (find(asked, &["shell", "run", "exec", "bash"])?, format!("sha256sum {FILE}"), None),
        4 => (find(asked, &["write"])?, REPORT.to_owned(), Some(word(results[3], 64)?)),
        _ => {
            let said =
                format!("The answer is {}; its digest is {}.", word(results[2], 2)?, word(results[3], 64)?);
            return Ok(Turn::text(script, &[said]));
        }
    };
    Ok(Turn::call(script, step, &tool.name, &arguments(tool, &first, second.as_deref())?))
}

/// One call for each errand that the user has named so far, `errand:write`, `errand:borrow` (of a host) or `errand:sleep`; then
/// how many there were.
pub(super) fn errands(script: &Script, asked: &Asked) -> Result<Turn, Refused> {
    let step = asked.calls.len();
    let named = asked.said.split("errand:").skip(1);
    let word = |text: &'_ str| text.chars().take_while(char::is_ascii_lowercase).collect::<String>();
    let Some(errand) = named.map(word).nth(step) else {
        return Ok(Turn::text(script, &[format!("{step} errands "), "are done.".to_owned()]));
    };
    let (tool, arguments) = match errand.as_str() {
        "write" => ("file_write", json!({"path": FILE, "text": "as it was said"})),
        "borrow" => (
            "octant_borrow",
            json!({"host": format!("tls://h{step}.example.org:443"), "ttl_ms": 60_000, "reason": "an errand"}),
        ),
        "sleep" => ("shell_run", json!({"command": "sleep 600"})),
        other => return Err(Refused::bad(format!("no errand is {other:?}"))),
    };
    Ok(Turn::call(script, step, &find(asked, &[tool])?.name, &arguments))
}

/// The word of this length that a result has, as the model would pick it out.
fn word(result: &str, length: usize) -> Result<String, Refused> {
    let mut words = result.split(|c: char| !c.is_ascii_alphanumeric());
    let found = words.find(|word| word.len() == length && word.chars().any(|c| c.is_ascii_digit()));
    found.map(str::to_owned).ok_or_else(|| Refused::bad(format!("{result:?} has no word of {length}")))
}

fn find<'a>(asked: &'a Asked, names: &[&str]) -> Result<&'a Tool, Refused> {
    let named = |name: &&str| asked.tools.iter().find(|tool| tool.name.contains(*name));
    names
        .iter()
        .find_map(named)
        .ok_or_else(|| Refused::bad(format!("no tool is named like one of {names:?}")))
}

/// The arguments: a command, or a path, or a path and a text, under the names that the schema has for them.
fn arguments(tool: &Tool, first: &str, second: Option<&str>) -> Result<Value, Refused> {
    let properties = tool.schema.get("properties").and_then(Value::as_object);
    let properties = properties.ok_or_else(|| Refused::bad(format!("{} has no properties", tool.name)))?;
    let named = |names: &[&str]| -> Result<String, Refused> {
        let found = names.iter().find(|name| properties.contains_key(**name));
        let missing = || Refused::bad(format!("{} has no argument like {names:?}", tool.name));
        found.map(|name| (*name).to_owned()).ok_or_else(missing)
    };
    let mut arguments = Map::new();
    let name = named(&["command", "cmd", "script", "path", "file", "file_path"])?;
    let list = properties[&name].get("type").and_then(Value::as_str) == Some("array");
    let value = if list { json!(["sh", "-c", first]) } else { json!(first) };
    arguments.insert(name, value);
    if let Some(second) = second {
        arguments.insert(named(&["content", "text", "contents", "data"])?, second.into());
    }
    Ok(arguments.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(results: &[&str]) -> Asked {
        let tool = |name: &str, properties: Value| Tool {
            name: name.to_owned(),
            schema: json!({"type": "object", "properties": properties}),
        };
        Asked {
            tools: vec![
                tool("shell", json!({"command": {"type": "array"}})),
                tool("write_file", json!({"path": {"type": "string"}, "content": {"type": "string"}})),
                tool("read_file", json!({"path": {"type": "string"}})),
            ],
            results: results.iter().map(|text| (String::new(), (*text).to_owned())).collect(),
            ..Asked::default()
        }
    }

    #[test]
    fn each_step_follows_from_the_results_before_it() {
        let script = Script::of("agent").unwrap();
        let hash = format!("{}  {FILE}\n", digest());
        let all = ["42\n", "ok", "42", &hash, "ok"];
        let names = ["shell", "write_file", "read_file", "shell", "write_file"];
        for (step, name) in names.iter().enumerate() {
            let turn = turn(&script, &asked(&all[..step])).unwrap();
            assert_eq!((turn.calls.len(), turn.calls[0].name.as_str()), (1, *name), "step {step}");
        }
        assert_eq!(turn(&script, &asked(&all)).unwrap().text.whole(), result());
        let wrong = turn(&script, &asked(&["41"])).unwrap();
        assert!(wrong.calls.is_empty() && wrong.text.whole().contains("Step 1"), "{wrong:?}");
    }

    #[test]
    fn each_errand_is_one_call() {
        let script = Script::of("errands").unwrap();
        let mut asked = asked(&[]);
        asked.said = "errand:sleep, then errand:write.".into();
        asked.tools =
            ["shell_run", "file_write"].map(|name| Tool { name: name.into(), schema: json!({}) }).into();
        for (step, name) in ["shell_run", "file_write"].iter().enumerate() {
            let turn = errands(&script, &asked).unwrap();
            assert_eq!((turn.calls.len(), turn.calls[0].name.as_str()), (1, *name), "step {step}");
            asked.calls.push((String::new(), (*name).to_owned()));
        }
        assert_eq!(errands(&script, &asked).unwrap().text.whole(), "2 errands are done.");
        asked.said += "errand:borrow";
        assert!(errands(&script, &asked).is_err(), "there is no such tool");
    }
}
