//! `octant chat`: an operator talks with a language model, or asks it once.

mod interrupt;

use crate::agents::{endpoint, key};
use crate::args::Chat;
use crate::error::CliError;
use crate::manifest::{read, text, write_over};
use crate::out::Out;
use interrupt::Interrupt;
use octant_ids::{Exit, Layout};
use octant_llm::{Delta, Event, Failure, Kind, Message, Part, Request, Role};
use octant_loop::entry::{Answer, Piece, Used};
use octant_loop::model::Model;
use octant_loop::visible;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, IsTerminal, Read};
use std::path::{Path, PathBuf};

/// The longest input, in bytes.
const INPUT_MAX: u64 = 4 << 20;
/// The longest conversation in a file, in bytes.
const SAVED_MAX: usize = 64 << 20;
/// How many models are named in a line.
const NAMES_MAX: usize = 40;
const HELP: &str = "\
/model       which models there are
/model NAME  ask another one from now on
/system TEXT tell the model this first from now on
/save FILE   keep the conversation in a file (octant chat --load FILE goes on with it)
/new         begin anew
/quit        leave; so does the end of input
^C           stop the answer that is coming; leave where none is
";

/// One thing that was said, as a file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Turn {
    by: By,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum By {
    User,
    Model,
}

/// What was said so far.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Conversation {
    model: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    system: Option<String>,
    turns: Vec<Turn>,
}

/// An answer, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Answered<'a> {
    model: &'a str,
    text: &'a str,
    usage: Used,
}

/// What a line of a conversation is.
#[derive(Debug, PartialEq, Eq)]
enum Said<'a> {
    Nothing,
    Words(&'a str),
    Models,
    Model(&'a str),
    System(&'a str),
    Save(&'a str),
    New,
    Quit,
    Help,
}

fn said(line: &str) -> Said<'_> {
    let line = line.trim();
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    match (word, rest.trim()) {
        ("", _) => Said::Nothing,
        ("/model" | "/models", "") => Said::Models,
        ("/model", name) if !name.is_empty() => Said::Model(name),
        ("/system", text) => Said::System(text),
        ("/save", file) if !file.is_empty() => Said::Save(file),
        ("/new", "") => Said::New,
        ("/quit" | "/exit", "") => Said::Quit,
        _ if word.starts_with('/') && !word[1..].contains('/') => Said::Help,
        _ => Said::Words(line),
    }
}

impl Conversation {
    fn request(&self) -> Request {
        let message = |turn: &Turn| {
            let role = match turn.by {
                By::User => Role::User,
                By::Model => Role::Assistant,
            };
            Message { role, parts: vec![Part::Text(turn.text.clone())] }
        };
        Request {
            model: self.model.clone(),
            system: self.system.iter().map(|text| Part::Text(text.clone())).collect(),
            messages: self.turns.iter().map(message).collect(),
            stream: true,
            stream_usage: true,
            ..Request::default()
        }
    }
}

fn said_by(answer: &Answer) -> String {
    let text = |piece: &Piece| match piece {
        Piece::Text { text } | Piece::Refusal { text } => Some(text.clone()),
        _ => None,
    };
    answer.pieces.iter().filter_map(text).collect()
}

/// Why there is no answer. A name that is wrong is answered with those that are right.
fn failed(model: &Model, failure: &Failure) -> CliError {
    let exit = match failure.kind {
        Kind::Unreachable | Kind::Overloaded | Kind::Upstream | Kind::Cut | Kind::RateLimited => {
            Exit::Unavailable
        }
        Kind::Unauthenticated | Kind::Forbidden | Kind::Spent => Exit::Denied,
        Kind::NotFound => Exit::NotFound,
        Kind::Timeout => Exit::Deadline,
        Kind::Invalid | Kind::Untranslatable | Kind::TooLarge | Kind::ContextLength => Exit::Invalid,
        Kind::Malformed | Kind::Cancelled => Exit::Failed,
    };
    if failure.kind == Kind::Cancelled {
        let why = "neither the question nor what came of the answer is kept".to_owned();
        return CliError::Refused { what: "stopped".to_owned(), why, exit, next: None };
    }
    let next = match failure.kind {
        Kind::NotFound => names(model),
        Kind::Unreachable => "`octant status` shows the router; --base-url asks elsewhere".to_owned(),
        _ => "`octant router status` shows what the router knows of it".to_owned(),
    };
    CliError::Refused {
        what: "there is no answer".to_owned(),
        why: failure.message.clone(),
        exit,
        next: Some(next),
    }
}

/// Which models there are, in words.
fn names(model: &Model) -> String {
    match model.known() {
        Ok(known) if known.is_empty() => {
            "there is none yet: name one in /etc/octant/router.toml, and then `octant router reload`"
                .to_owned()
        }
        Ok(known) => {
            let names: Vec<&str> = known.keys().map(String::as_str).take(NAMES_MAX).collect();
            let more = if known.len() > NAMES_MAX { ", ..." } else { "" };
            format!("there are: {}{more}", visible(&names.join(", ")))
        }
        Err(failure) => format!("which there are cannot be asked: {}", visible(&failure.message)),
    }
}

/// The command.
pub(crate) fn run(asked: &Chat, layout: &Layout, out: &mut Out) -> Result<(), CliError> {
    let mut talk = match &asked.load {
        Some(file) => load(file)?,
        None => Conversation::default(),
    };
    let model =
        asked.model.clone().or_else(|| std::env::var("OCTANT_MODEL").ok()).filter(|name| !name.is_empty());
    talk.model = model.unwrap_or(talk.model);
    talk.system = asked.system.clone().or(talk.system);
    let model = Model::new(endpoint(asked.base_url.as_deref(), Some(&layout.router_http()))?, key())?;
    if talk.model.is_empty() {
        return Err(CliError::Refused {
            what: "cannot ask a model".to_owned(),
            why: "none is named".to_owned(),
            exit: Exit::Usage,
            next: Some(format!("give --model NAME, or set OCTANT_MODEL; {}", names(&model))),
        });
    }
    match question(asked.question.as_deref())? {
        Some(question) => ask(&model, &mut talk, question, &|| false, out).map(|_| ()),
        None => converse(&model, talk, out),
    }
}

/// The one question; none where somebody at a terminal asks.
fn question(given: Option<&str>) -> Result<Option<String>, CliError> {
    let mut text = given.unwrap_or_default().to_owned();
    let input = io::stdin();
    if input.is_terminal() {
        return Ok(given.map(str::to_owned));
    }
    let failed = |source| CliError::Read { path: PathBuf::from("standard input"), source };
    let mut piped = String::new();
    input.lock().take(INPUT_MAX + 1).read_to_string(&mut piped).map_err(failed)?;
    if piped.len() as u64 > INPUT_MAX {
        let path = PathBuf::from("standard input");
        return Err(CliError::TooLarge { path, kind: "question", limit: INPUT_MAX });
    }
    if !piped.trim().is_empty() {
        if !text.is_empty() {
            text += "\n\n";
        }
        text += &piped;
    }
    if text.trim().is_empty() {
        let (what, why) = ("cannot ask a model".to_owned(), "there is no question".to_owned());
        let next = Some("give one, on the command line or on standard input".to_owned());
        return Err(CliError::Refused { what, why, exit: Exit::Usage, next });
    }
    Ok(Some(text))
}

/// Asks, shows the answer as it comes, and keeps both.
fn ask(
    model: &Model,
    talk: &mut Conversation,
    question: String,
    stop: &dyn Fn() -> bool,
    out: &mut Out,
) -> Result<Used, CliError> {
    talk.turns.push(Turn { by: By::User, text: question });
    let (mut written, mut open) = (Ok(()), false);
    let answer = model.ask(&talk.request(), stop, &mut |event| {
        if let (Event::Delta { delta: Delta::Text(text) | Delta::Refusal(text), .. }, false) =
            (event, out.json)
            && written.is_ok()
        {
            open = !text.ends_with('\n');
            let shown = if out.columns.is_some() { visible(text) } else { text.clone() };
            written = out.raw(shown.as_bytes());
        }
    });
    written?;
    if open {
        out.line("")?;
    }
    match answer {
        Ok(answer) => {
            let text = said_by(&answer);
            if out.json {
                out.json(&Answered { model: &talk.model, text: &text, usage: answer.usage })?;
            }
            talk.turns.push(Turn { by: By::Model, text });
            Ok(answer.usage)
        }
        Err(failure) => {
            // It can be asked again.
            talk.turns.pop();
            Err(failed(model, &failure))
        }
    }
}

fn converse(model: &Model, mut talk: Conversation, out: &mut Out) -> Result<(), CliError> {
    let interrupt = Interrupt::listen()?;
    out.note(&format!("{}; /help says what else there is", talk.model));
    let mut line = String::new();
    loop {
        out.error(b"> ");
        line.clear();
        let got = io::stdin().lock().take(INPUT_MAX).read_line(&mut line);
        if got.map_err(|source| CliError::Read { path: PathBuf::from("standard input"), source })? == 0 {
            return Ok(());
        }
        let done = match said(&line) {
            Said::Quit => return Ok(()),
            Said::Words(text) => {
                interrupt.asking(true);
                let used = ask(model, &mut talk, text.to_owned(), &|| interrupt.stops(), out);
                interrupt.asking(false);
                used.map(|used| out.note(&spent(model, &talk.model, used)))
            }
            other => command(other, model, &mut talk, out),
        };
        // The conversation goes on, but for an output that is gone.
        match done {
            Err(error @ CliError::Stdout(_)) => return Err(error),
            Err(error) => {
                out.note(&error.to_string());
                error.next().into_iter().for_each(|next| out.note(&next));
            }
            Ok(()) => {}
        }
    }
}

/// What an answer took, and what that costs at most where the router says it.
fn spent(model: &Model, name: &str, used: Used) -> String {
    let known = model.known().unwrap_or_default();
    let cost = known.get(name).and_then(|facts| facts.cost(used));
    let cost = cost.map_or_else(String::new, |micro| format!(", at most ${}", crate::router::usd(micro)));
    format!("{} tokens in, {} out{cost}", used.input, used.output)
}

/// What is no question.
fn command(said: Said<'_>, model: &Model, talk: &mut Conversation, out: &mut Out) -> Result<(), CliError> {
    match said {
        Said::Nothing | Said::Quit | Said::Words(_) => {}
        Said::Help => out.error(HELP.as_bytes()),
        Said::Models => out.note(&format!("{} is asked; {}", talk.model, names(model))),
        Said::New => talk.turns.clear(),
        Said::Model(name) => {
            name.clone_into(&mut talk.model);
            // Whether there is such a model says whoever is asked.
            if model.known().is_ok_and(|known| !known.contains_key(name)) {
                out.note(&format!("{name} is not in the list of models; {}", names(model)));
            }
        }
        Said::System(text) => talk.system = Some(text.to_owned()).filter(|text| !text.is_empty()),
        Said::Save(file) => {
            save(talk, Path::new(file))?;
            out.note(&format!("kept in {file}"));
        }
    }
    Ok(())
}

fn save(talk: &Conversation, file: &Path) -> Result<(), CliError> {
    let text = serde_json::to_string(talk)
        .map_err(|error| CliError::Write { path: file.to_owned(), source: error.into() })?;
    write_over(file, format!("{text}\n").as_bytes())
}

fn load(file: &Path) -> Result<Conversation, CliError> {
    const KIND: &str = "conversation";
    let bytes = text(read(file, KIND, SAVED_MAX)?, file, KIND)?;
    serde_json::from_str(&bytes).map_err(|error| crate::manifest::invalid(file, KIND, &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use octant_loop::model::Endpoint;
    use std::io::Write;
    use std::net::TcpListener;

    #[test]
    fn a_line_is_words_or_a_command() {
        let rows = [
            ("", Said::Nothing),
            ("  hello there \n", Said::Words("hello there")),
            ("/model a/b", Said::Model("a/b")),
            ("/model", Said::Models),
            ("/system", Said::System("")),
            ("/save x.json\n", Said::Save("x.json")),
            ("/quit", Said::Quit),
            ("/etc/passwd is what?", Said::Words("/etc/passwd is what?")),
            ("/nothing", Said::Help),
        ];
        for (line, wanted) in rows {
            assert_eq!(said(line), wanted, "{line:?}");
        }
    }

    /// A router that lists two models, whatever it is asked.
    fn router() -> Model {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let body = r#"{"data":[{"id":"a","pricing":{"prompt":"0.000001","completion":"0.000002"}},{"id":"b\u001b"}]}"#;
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                // The head of a GET is all of it.
                let mut head = io::BufReader::new(&stream).lines().map(Result::unwrap);
                head.find(|line| line.is_empty()).unwrap();
                let length = body.len();
                write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
            }
        });
        Model::new(Endpoint::of_url(&url).unwrap(), None).unwrap()
    }

    #[test]
    fn a_wrong_name_is_answered_with_the_right_ones_and_an_answer_with_its_cost() {
        let model = router();
        let next = failed(&model, &Failure::new(Kind::NotFound, "no such model")).next().unwrap();
        assert_eq!(next, "there are: a, b\\u{1b}");
        let used = Used { input: 17, output: 11 };
        assert_eq!(spent(&model, "a", used), "17 tokens in, 11 out, at most $0.000039");
        assert_eq!(spent(&model, "c", used), "17 tokens in, 11 out");
        let stopped = failed(&model, &Failure::new(Kind::Cancelled, "not wanted"));
        assert!(stopped.to_string().starts_with("stopped: ") && stopped.next().is_none(), "{stopped}");
    }

    #[test]
    fn a_conversation_is_kept_and_goes_on() {
        let file = std::env::temp_dir().join(format!("octant-chat-{}.json", std::process::id()));
        let turns = vec![Turn { by: By::User, text: "a".into() }, Turn { by: By::Model, text: "b".into() }];
        let talk = Conversation { model: "m".into(), system: Some("s".into()), turns };
        save(&talk, &file).unwrap();
        assert_eq!(load(&file).unwrap(), talk);
        let request = talk.request();
        assert_eq!((request.messages.len(), request.messages[1].role), (2, Role::Assistant));
        std::fs::write(&file, "{}").unwrap();
        assert!(matches!(load(&file), Err(CliError::Invalid { .. })));
        std::fs::remove_file(&file).unwrap();
    }
}
