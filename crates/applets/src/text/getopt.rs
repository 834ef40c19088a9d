//! `getopt`: options of shell scripts, put in order.

use crate::output::{complain, help_or_version, print};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

const HELP: &str = "\
Usage: getopt OPTSTRING PARAMETER...
       getopt [OPTION]... [--] OPTSTRING PARAMETER...
       getopt [OPTION]... -o OPTSTRING [OPTION]... [--] PARAMETER...
Print the parameters with their options first, quoted for a shell: eval set -- \"$(getopt ...)\".

  -o OPTSTRING   letters; one colon for a value, two for a value that may be missing
  -l WORDS       long options, with commas; colons as above
  -a             long options with one dash too
  -n NAME        who complains
  -q             no complaints
  -Q             print nothing
  -u             without quotes
  -T             end with 4: this is the improved getopt

The exit code is 1 for wrong options among the parameters, 2 for wrong ones of getopt itself.
";

#[derive(Debug, Default)]
struct Request {
    letters: Option<String>,
    words: Vec<String>,
    single_dash: bool,
    name: Option<String>,
    quiet: bool,
    silent: bool,
    plain: bool,
    parameters: VecDeque<String>,
}

/// A wrong use of getopt itself, as util-linux has it.
const MISUSED: i32 = 2;

pub(crate) fn getopt(arguments: Vec<OsString>) -> i32 {
    if let Some(code) = help_or_version(&arguments, "getopt", HELP) {
        return code;
    }
    if arguments.len() == 2 && (arguments[1] == "-T" || arguments[1] == "--test") {
        return 4;
    }
    if let Some(other) = arguments.iter().find(|argument| std::str::from_utf8(argument.as_bytes()).is_err()) {
        complain("getopt", &format_args!("argument {other:?} is not UTF-8 text"));
        return MISUSED;
    }
    let texts = arguments.into_iter().skip(1).filter_map(|argument| argument.into_string().ok()).collect();
    let request = match parse(texts) {
        Ok(request) => request,
        Err(message) => {
            complain("getopt", &format_args!("{message}; getopt --help lists the options"));
            return MISUSED;
        }
    };
    let name = request.name.clone().unwrap_or_else(|| "getopt".into());
    let (line, wrong) = arrange(request.letters.as_deref().unwrap_or_default(), &request);
    if !request.quiet {
        for message in &wrong {
            complain(&name, message);
        }
    }
    let code = i32::from(!wrong.is_empty());
    if request.silent { code } else { print("getopt", &line).max(code) }
}

fn parse(mut arguments: VecDeque<String>) -> Result<Request, String> {
    let mut request = Request::default();
    let first_is_option = arguments.front().is_some_and(|first| first.starts_with('-') && first.len() > 1);
    if !first_is_option {
        // The old form: nothing is quoted.
        request.letters = arguments.pop_front();
        request.plain = true;
        request.parameters = arguments;
        if request.parameters.front().is_some_and(|first| first == "--") {
            request.parameters.pop_front();
        }
        return if request.letters.is_some() { Ok(request) } else { Err("no OPTSTRING".into()) };
    }
    while let Some(argument) = arguments.pop_front() {
        if argument == "--" {
            break;
        }
        if !argument.starts_with('-') || argument.len() == 1 {
            arguments.push_front(argument);
            break;
        }
        own_option(&mut request, &argument, &mut arguments)?;
    }
    if request.letters.is_none() {
        request.letters = Some(arguments.pop_front().ok_or("no OPTSTRING")?);
    }
    request.parameters = arguments;
    Ok(request)
}

fn own_option(request: &mut Request, argument: &str, rest: &mut VecDeque<String>) -> Result<(), String> {
    let (letter, mut value) = match argument.strip_prefix("--") {
        Some(long) => {
            let (word, value) =
                long.split_once('=').map_or((long, None), |(word, value)| (word, Some(value)));
            let letter = match word {
                "options" => 'o',
                "longoptions" | "long" => 'l',
                "alternative" => 'a',
                "name" => 'n',
                "quiet" => 'q',
                "quiet-output" => 'Q',
                "unquoted" => 'u',
                "shell" => 's',
                _ => return Err(format!("unknown option {argument}")),
            };
            (letter, value.map(str::to_owned))
        }
        None => {
            let mut letters = argument[1..].chars();
            let letter = letters.next().unwrap_or('-');
            let attached = letters.as_str();
            if "aqQu".contains(letter) && !attached.is_empty() {
                rest.push_front(format!("-{attached}"));
                (letter, None)
            } else {
                (letter, (!attached.is_empty()).then(|| attached.to_owned()))
            }
        }
    };
    let mut needed = || {
        value.take().or_else(|| rest.pop_front()).ok_or_else(|| format!("option {argument} needs a value"))
    };
    match letter {
        'o' => request.letters = Some(needed()?),
        'l' => request.words.extend(needed()?.split([',', ' ']).filter(|w| !w.is_empty()).map(str::to_owned)),
        'n' => request.name = Some(needed()?),
        // Every shell of today reads these quotes.
        's' => drop(needed()?),
        'a' => request.single_dash = true,
        'q' => request.quiet = true,
        'Q' => request.silent = true,
        'u' => request.plain = true,
        _ => return Err(format!("unknown option {argument}")),
    }
    Ok(())
}

/// Whether an option has a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    None,
    Needed,
    Optional,
}

fn value_of(colons: &str) -> Value {
    match colons.bytes().take_while(|&b| b == b':').count() {
        0 => Value::None,
        1 => Value::Needed,
        _ => Value::Optional,
    }
}

/// The line of options and parameters, and what is wrong with them.
fn arrange(letters: &str, request: &Request) -> (String, Vec<String>) {
    // "+": the first parameter ends the options; "-": parameters stay where they are.
    let in_order = letters.starts_with('-');
    let stops = letters.starts_with('+') || std::env::var_os("POSIXLY_CORRECT").is_some();
    let letters = letters.strip_prefix(['+', '-']).unwrap_or(letters).trim_start_matches(':');
    let mut parts = Vec::new();
    let mut parameters = Vec::new();
    let mut wrong = Vec::new();
    let quoted = |text: &str| if request.plain { text.to_owned() } else { quote(text) };
    let mut rest = request.parameters.clone();
    while let Some(parameter) = rest.pop_front() {
        if parameter == "--" {
            parameters.extend(rest.drain(..).map(|text| quoted(&text)));
        } else if let Some(long) = parameter.strip_prefix("--") {
            long_option(long, request, &mut rest, &mut parts, &mut wrong);
        } else if parameter.len() > 1 && parameter.starts_with('-') {
            let known = |word: &str| request.words.iter().any(|w| w.trim_end_matches(':') == word);
            let word = parameter[1..].split('=').next().unwrap_or_default();
            if request.single_dash && known(word) {
                long_option(&parameter[1..], request, &mut rest, &mut parts, &mut wrong);
            } else {
                short_options(&parameter[1..], letters, &quoted, &mut rest, &mut parts, &mut wrong);
            }
        } else if in_order {
            parts.push(quoted(&parameter));
        } else if stops {
            parameters.push(quoted(&parameter));
            parameters.extend(rest.drain(..).map(|text| quoted(&text)));
        } else {
            parameters.push(quoted(&parameter));
        }
    }
    parts.push("--".into());
    parts.extend(parameters);
    (format!(" {}\n", parts.join(" ")), wrong)
}

fn short_options(
    cluster: &str,
    letters: &str,
    quoted: &dyn Fn(&str) -> String,
    rest: &mut VecDeque<String>,
    parts: &mut Vec<String>,
    wrong: &mut Vec<String>,
) {
    let mut chars = cluster.chars();
    while let Some(letter) = chars.next() {
        let place = letters.find(letter).filter(|_| letter != ':');
        let Some(place) = place else {
            wrong.push(format!("invalid option -- '{letter}'"));
            continue;
        };
        parts.push(format!("-{letter}"));
        let attached = chars.as_str();
        match value_of(&letters[place + letter.len_utf8()..]) {
            Value::None => continue,
            Value::Optional => parts.push(quoted(attached)),
            Value::Needed if !attached.is_empty() => parts.push(quoted(attached)),
            Value::Needed => match rest.pop_front() {
                Some(value) => parts.push(quoted(&value)),
                None => {
                    parts.pop();
                    wrong.push(format!("option requires an argument -- '{letter}'"));
                }
            },
        }
        return;
    }
}

fn long_option(
    long: &str,
    request: &Request,
    rest: &mut VecDeque<String>,
    parts: &mut Vec<String>,
    wrong: &mut Vec<String>,
) {
    let quoted = |text: &str| if request.plain { text.to_owned() } else { quote(text) };
    let (word, value) = long.split_once('=').map_or((long, None), |(word, value)| (word, Some(value)));
    let name = |known: &str| known.trim_end_matches(':').to_owned();
    let mut found: Vec<&String> = request.words.iter().filter(|known| name(known) == word).collect();
    if found.is_empty() {
        // As much as tells it from others is enough.
        found = request.words.iter().filter(|known| known.starts_with(word)).collect();
    }
    let [known] = found[..] else {
        let what = if found.is_empty() { "unrecognized option" } else { "ambiguous option" };
        wrong.push(format!("{what} '--{word}'"));
        return;
    };
    let known_name = name(known);
    match (value_of(&known[known_name.len()..]), value) {
        (Value::None, Some(_)) => wrong.push(format!("option '--{known_name}' doesn't allow an argument")),
        (Value::None, None) => parts.push(format!("--{known_name}")),
        (Value::Optional, value) => {
            parts.extend([format!("--{known_name}"), quoted(value.unwrap_or_default())])
        }
        (Value::Needed, Some(value)) => parts.extend([format!("--{known_name}"), quoted(value)]),
        (Value::Needed, None) => match rest.pop_front() {
            Some(value) => parts.extend([format!("--{known_name}"), quoted(&value)]),
            None => wrong.push(format!("option '--{known_name}' requires an argument")),
        },
    }
}

/// In single quotes, of which one inside ends them, stands quoted by itself, and begins them again.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arranged(words: &[&str]) -> (String, usize) {
        let request = parse(words.iter().map(|word| (*word).to_owned()).collect()).unwrap();
        let (line, wrong) = arrange(request.letters.as_deref().unwrap_or_default(), &request);
        (line, wrong.len())
    }

    #[test]
    fn options_come_first_and_everything_is_quoted() {
        let line = arranged(&["-o", "ab:c::", "--", "x", "-a", "-bval", "-c", "-cq", "it's"]);
        assert_eq!(line, (" -a -b 'val' -c '' -c 'q' -- 'x' 'it'\\''s'\n".into(), 0));
        let line = arranged(&[
            "-o",
            "",
            "-l",
            "long,need:,opt::",
            "--",
            "--lo",
            "--need",
            "1",
            "--opt=2",
            "--need=3",
        ]);
        assert_eq!(line, (" --long --need '1' --opt '2' --need '3' --\n".into(), 0));
        assert_eq!(arranged(&["ab:", "-b", "v", "r"]), (" -b v -- r\n".into(), 0));
        assert_eq!(arranged(&["-o", "+a", "--", "x", "-a"]), (" -- 'x' '-a'\n".into(), 0));
    }

    #[test]
    fn wrong_options_are_told_and_left_out() {
        assert_eq!(arranged(&["-o", "a:", "--", "-x", "-a"]), (" --\n".into(), 2));
        assert_eq!(arranged(&["-o", "", "-l", "no", "--", "--no=1", "--other"]), (" --\n".into(), 2));
        assert!(parse(VecDeque::new()).is_err());
    }
}
