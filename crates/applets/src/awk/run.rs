//! Walks a program's tree: rules, statements, and what they need of records and variables.

use super::io::{Ending, Mode, Reader, Streams};
use super::lex::unescape;
use super::pattern::Pattern;
use super::record::{Record, Splitter};
use super::tree::{Condition, Expr, Program, Redirection, Statement, Variable, special};
use super::value::{Text, Value};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Display;
use std::rc::Rc;

/// How many calls may stand within each other; the stack is sized for it.
pub(super) const CALLS_MAX: usize = 10_000;

/// Patterns that texts were made into are kept, up to so many.
const PATTERNS_MAX: usize = 256;

/// An array, shared with the functions that it is handed to.
pub(super) type Table = Rc<RefCell<HashMap<Text, Value>>>;

#[derive(Debug, Clone)]
pub(super) enum Slot {
    Scalar(Value),
    Table(Table),
}

/// What ends more than a statement.
#[derive(Debug)]
pub(super) enum Stop {
    Error(String),
    Next,
    NextFile,
    Exit,
}

impl From<String> for Stop {
    fn from(cause: String) -> Self {
        Self::Error(cause)
    }
}

/// Says what was tried when it failed.
pub(super) fn failed<E: Display>(what: impl Display) -> impl FnOnce(E) -> Stop {
    move |error| Stop::Error(format!("{what}: {error}"))
}

pub(super) type Outcome<T> = Result<T, Stop>;

/// How a statement ended.
enum Flow {
    On,
    Break,
    Continue,
    Return(Value),
}

#[derive(Debug)]
pub(super) struct Machine<'a> {
    pub(super) program: &'a Program,
    pub(super) globals: Vec<Slot>,
    pub(super) locals: Vec<Slot>,
    /// Where the running function's locals begin.
    pub(super) base: usize,
    pub(super) calls: usize,
    pub(super) record: Record,
    pub(super) streams: Streams,
    pub(super) utf8: bool,
    pub(super) random: super::builtin::Random,
    patterns: HashMap<Text, Rc<Pattern>>,
    splitter: Rc<Splitter>,
    pub(super) ending: Ending,
    /// The formats of numbers and the joints, kept beside their variables since each value and line needs them.
    pub(super) convfmt: Text,
    pub(super) joint: Text,
    ranges: Vec<bool>,
    input: Option<Reader>,
    /// The argument that is looked at next.
    argument: usize,
    any_file: bool,
    ended: bool,
    pub(super) code: i32,
}

impl<'a> Machine<'a> {
    pub(super) fn new(program: &'a Program, utf8: bool) -> Self {
        let mut globals = vec![Slot::Scalar(Value::Nothing); program.globals.len()];
        let texts: [(usize, &[u8]); 7] = [
            (special::FS, b" "),
            (special::OFS, b" "),
            (special::ORS, b"\n"),
            (special::RS, b"\n"),
            (special::SUBSEP, b"\x1c"),
            (special::CONVFMT, b"%.6g"),
            (special::OFMT, b"%.6g"),
        ];
        for (at, text) in texts {
            globals[at] = Slot::Scalar(Value::text(text));
        }
        globals[special::RLENGTH] = Slot::Scalar(Value::Number(-1.0));
        for at in [special::NR, special::FNR, special::RSTART] {
            globals[at] = Slot::Scalar(Value::Number(0.0));
        }
        Self {
            program,
            globals,
            locals: Vec::new(),
            base: 0,
            calls: 0,
            record: Record::new(utf8),
            streams: Streams::new(),
            utf8,
            random: super::builtin::Random::new(),
            patterns: HashMap::new(),
            splitter: Rc::new(Splitter::Blanks),
            ending: Ending::Byte(b'\n'),
            convfmt: Rc::from(&b"%.6g"[..]),
            joint: Rc::from(&b" "[..]),
            ranges: vec![false; program.ranges],
            input: None,
            argument: 1,
            any_file: false,
            ended: false,
            code: 0,
        }
    }

    /// The arguments and the environment, before anything runs.
    pub(super) fn give(&mut self, arguments: &[Vec<u8>], environment: &[(Vec<u8>, Vec<u8>)]) {
        let table = |pairs: &mut dyn Iterator<Item = (Text, Value)>| {
            Slot::Table(Rc::new(RefCell::new(pairs.collect())))
        };
        let numbered = arguments.iter().enumerate();
        let mut listed = numbered
            .map(|(at, text)| (Text::from(at.to_string().as_bytes()), Value::Input(text.as_slice().into())));
        self.globals[special::ARGV] = table(&mut listed);
        #[allow(clippy::cast_precision_loss)] // no system takes so many arguments
        let count = arguments.len() as f64;
        self.globals[special::ARGC] = Slot::Scalar(Value::Number(count));
        let mut named = environment
            .iter()
            .map(|(name, value)| (Text::from(name.as_slice()), Value::Input(value.as_slice().into())));
        self.globals[special::ENVIRON] = table(&mut named);
    }

    /// `NAME=VALUE` of the command line, with the escapes of a text in the program. False where it is none.
    pub(super) fn assign(&mut self, text: &[u8]) -> Outcome<bool> {
        let Some((name, value)) = assignment(text) else { return Ok(false) };
        if self.program.functions.iter().any(|function| function.name.as_bytes() == name) {
            return Err(Stop::Error(format!(
                "{}: a function, which has no value",
                String::from_utf8_lossy(name)
            )));
        }
        // A name that the program does not have is nowhere to be seen.
        if let Some(at) = self.program.globals.iter().position(|global| global.as_bytes() == name) {
            self.set(Variable::Global(at), Value::Input(unescape(value).into()))?;
        }
        Ok(true)
    }

    /// All of it; the exit code.
    pub(super) fn run(&mut self) -> Result<i32, String> {
        let mut result = self.begin_and_records();
        if matches!(result, Ok(()) | Err(Stop::Exit)) && !self.ended {
            self.ended = true;
            result = self.all(&self.program.end);
        }
        let closed = self.streams.close_all();
        match result {
            Err(Stop::Error(cause)) => Err(cause),
            Err(Stop::Next | Stop::NextFile) => Err("next or nextfile where there is no record".into()),
            Ok(()) | Err(Stop::Exit) => match closed {
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                    Err(format!("cannot write all of the output: {error}"))
                }
                _ => Ok(self.code),
            },
        }
    }

    fn all(&mut self, statements: &'a [Statement]) -> Outcome<()> {
        for statement in statements {
            self.statement(statement)?;
        }
        Ok(())
    }

    fn begin_and_records(&mut self) -> Outcome<()> {
        let program = self.program;
        self.all(&program.begin)?;
        if program.rules.is_empty() && program.end.is_empty() {
            return Ok(());
        }
        while let Some(text) = self.next_record()? {
            self.record.read(&text, &self.splitter, matches!(self.ending, Ending::Paragraph));
            match self.rules() {
                Err(Stop::Next) => {}
                Err(Stop::NextFile) => self.input = None,
                other => other?,
            }
        }
        Ok(())
    }

    fn rules(&mut self) -> Outcome<()> {
        for rule in &self.program.rules {
            let holds = match &rule.condition {
                Condition::Always => true,
                Condition::If(condition) => self.eval(condition)?.is_true(),
                Condition::Range(first, last, at) => {
                    let within = self.ranges[*at] || self.eval(first)?.is_true();
                    self.ranges[*at] = within && !self.eval(last)?.is_true();
                    within
                }
            };
            if !holds {
                continue;
            }
            match &rule.action {
                Some(action) => {
                    self.statement(action)?;
                }
                None => self.print(&[], None)?,
            }
        }
        Ok(())
    }

    /// The next record of the files that the arguments name, or of standard input where they name none.
    pub(super) fn next_record(&mut self) -> Outcome<Option<Vec<u8>>> {
        loop {
            if self.input.is_none() && !self.open_next()? {
                return Ok(None);
            }
            let Some(reader) = &mut self.input else { return Ok(None) };
            // What a terminal shows stands there before it is waited for.
            if let Some(text) = reader.next(&self.ending).map_err(failed("cannot read"))? {
                let text = text.to_vec();
                self.count(special::NR)?;
                self.count(special::FNR)?;
                return Ok(Some(text));
            }
            self.input = None;
        }
    }

    fn count(&mut self, counter: usize) -> Outcome<()> {
        let number = self.get(Variable::Global(counter))?.number();
        self.globals[counter] = Slot::Scalar(Value::Number(number + 1.0));
        Ok(())
    }

    fn open_next(&mut self) -> Outcome<bool> {
        loop {
            let count = self.get(Variable::Global(special::ARGC))?.number();
            #[allow(clippy::cast_precision_loss)] // far below
            if self.argument as f64 >= count {
                break;
            }
            let key = Text::from(self.argument.to_string().as_bytes());
            self.argument += 1;
            let table = self.table(Variable::Global(special::ARGV))?;
            let argument = table.borrow().get(&key).map(|value| value.to_text(&self.convfmt));
            let Some(argument) = argument.filter(|argument| !argument.is_empty()) else { continue };
            if self.assign(&argument)? {
                continue;
            }
            self.any_file = true;
            match Reader::file(&argument) {
                Ok(reader) => {
                    self.input = Some(reader);
                    self.globals[special::FILENAME] = Slot::Scalar(Value::Input(argument));
                    self.globals[special::FNR] = Slot::Scalar(Value::Number(0.0));
                    return Ok(true);
                }
                Err(error) => {
                    crate::output::complain(
                        "awk",
                        &format_args!("{}: {error}", String::from_utf8_lossy(&argument)),
                    );
                    self.code = super::TROUBLE;
                }
            }
        }
        if self.any_file {
            return Ok(false);
        }
        self.any_file = true;
        self.input = Some(Reader::stdin());
        Ok(true)
    }

    fn statement(&mut self, statement: &'a Statement) -> Outcome<Flow> {
        match statement {
            Statement::Expr(expr) => {
                self.eval(expr)?;
            }
            Statement::Print(values, target) => self.print(values, target.as_ref())?,
            Statement::Printf(values, target) => {
                let text = self.formatted(values)?;
                self.write(&text, target.as_ref())?;
            }
            Statement::If(condition, then, other) => {
                if self.eval(condition)?.is_true() {
                    return self.statement(then);
                } else if let Some(other) = other {
                    return self.statement(other);
                }
            }
            Statement::Block(statements) => {
                for statement in statements {
                    match self.statement(statement)? {
                        Flow::On => {}
                        other => return Ok(other),
                    }
                }
            }
            Statement::While(..) | Statement::Do(..) | Statement::For { .. } | Statement::ForIn(..) => {
                return self.repeated(statement);
            }
            Statement::Next => return Err(Stop::Next),
            Statement::NextFile => return Err(Stop::NextFile),
            Statement::Exit(code) => {
                if let Some(code) = code {
                    #[allow(clippy::cast_possible_truncation)] // the system takes its lowest eight bits
                    let code = self.eval(code)?.number() as i32;
                    self.code = code;
                }
                return Err(Stop::Exit);
            }
            Statement::Return(value) => {
                let value = value.as_ref().map_or(Ok(Value::Nothing), |value| self.eval(value))?;
                return Ok(Flow::Return(value));
            }
            Statement::Break => return Ok(Flow::Break),
            Statement::Continue => return Ok(Flow::Continue),
            Statement::Delete(array, subscripts) => {
                let table = self.table(*array)?;
                if subscripts.is_empty() {
                    table.borrow_mut().clear();
                } else {
                    let key = self.key(subscripts)?;
                    table.borrow_mut().remove(&key);
                }
            }
        }
        Ok(Flow::On)
    }

    fn repeated(&mut self, statement: &'a Statement) -> Outcome<Flow> {
        match statement {
            Statement::While(condition, body) => {
                while self.eval(condition)?.is_true() {
                    match self.statement(body)? {
                        Flow::Break => break,
                        Flow::Return(value) => return Ok(Flow::Return(value)),
                        Flow::On | Flow::Continue => {}
                    }
                }
            }
            Statement::Do(body, condition) => loop {
                match self.statement(body)? {
                    Flow::Break => break,
                    Flow::Return(value) => return Ok(Flow::Return(value)),
                    Flow::On | Flow::Continue => {}
                }
                if !self.eval(condition)?.is_true() {
                    break;
                }
            },
            Statement::For { first, condition, step, body } => {
                if let Some(first) = first {
                    self.statement(first)?;
                }
                while condition
                    .as_ref()
                    .map_or(Ok(true), |condition| Ok::<_, Stop>(self.eval(condition)?.is_true()))?
                {
                    match self.statement(body)? {
                        Flow::Break => break,
                        Flow::Return(value) => return Ok(Flow::Return(value)),
                        Flow::On | Flow::Continue => {}
                    }
                    if let Some(step) = step {
                        self.statement(step)?;
                    }
                }
            }
            Statement::ForIn(variable, array, body) => {
                let table = self.table(*array)?;
                let mut keys: Vec<Text> = table.borrow().keys().cloned().collect();
                keys.sort_by_cached_key(order);
                for key in keys {
                    // What the body deletes is not gone through any more.
                    if !table.borrow().contains_key(&key) {
                        continue;
                    }
                    self.set(*variable, Value::Input(key))?;
                    match self.statement(body)? {
                        Flow::Break => break,
                        Flow::Return(value) => return Ok(Flow::Return(value)),
                        Flow::On | Flow::Continue => {}
                    }
                }
            }
            _ => {}
        }
        Ok(Flow::On)
    }

    /// Runs a function's body in its frame.
    pub(super) fn body(&mut self, at: usize) -> Outcome<Value> {
        match self.program.functions[at].body.as_ref().map(|body| self.statement(body)) {
            Some(Ok(Flow::Return(value))) => Ok(value),
            Some(Err(stop)) => Err(stop),
            _ => Ok(Value::Nothing),
        }
    }

    fn print(&mut self, values: &'a [Expr], target: Option<&'a Redirection>) -> Outcome<()> {
        let mut line = Vec::new();
        let format = self.text_of(special::OFMT)?;
        if values.is_empty() {
            line.extend_from_slice(&self.field(0).to_text(&format));
        }
        for (at, value) in values.iter().enumerate() {
            if at > 0 {
                line.extend_from_slice(&self.joint);
            }
            let value = self.eval(value)?;
            match &value {
                Value::Text(text) | Value::Input(text) => line.extend_from_slice(text),
                other => line.extend_from_slice(&other.to_text(&format)),
            }
        }
        line.extend_from_slice(&self.text_of(special::ORS)?);
        self.write(&line, target)
    }

    fn write(&mut self, text: &[u8], target: Option<&'a Redirection>) -> Outcome<()> {
        let (name, mode) = match target {
            None => return self.streams.print(text).map_err(failed("cannot write to standard output")),
            Some(Redirection::File(name)) => (name, Mode::Truncate),
            Some(Redirection::Append(name)) => (name, Mode::Append),
            Some(Redirection::Command(name)) => (name, Mode::Command),
        };
        let name = self.text(name)?;
        self.streams.write(&name, mode, text).map_err(failed(String::from_utf8_lossy(&name)))
    }

    pub(super) fn text_of(&mut self, global: usize) -> Outcome<Text> {
        Ok(self.get(Variable::Global(global))?.to_text(b"%.6g"))
    }

    pub(super) fn field(&mut self, at: usize) -> Value {
        self.record.get(at, &self.joint, &self.convfmt)
    }

    /// Gives a field a value; the whole record is split anew.
    pub(super) fn set_field(&mut self, at: usize, value: Value) -> Outcome<()> {
        if at == 0 {
            let text = value.to_text(&self.convfmt);
            self.record.read(&text, &self.splitter, matches!(self.ending, Ending::Paragraph));
            Ok(())
        } else {
            Ok(self.record.set(at, value)?)
        }
    }

    pub(super) fn pattern(&mut self, text: &Text) -> Outcome<Rc<Pattern>> {
        if let Some(known) = self.patterns.get(text) {
            return Ok(Rc::clone(known));
        }
        if self.patterns.len() >= PATTERNS_MAX {
            self.patterns.clear();
        }
        let pattern = Rc::new(Pattern::new(text, self.utf8)?);
        self.patterns.insert(Rc::clone(text), Rc::clone(&pattern));
        Ok(pattern)
    }

    fn slot(&mut self, variable: Variable) -> &mut Slot {
        match variable {
            Variable::Global(at) => &mut self.globals[at],
            Variable::Local(at) => &mut self.locals[self.base + at],
        }
    }

    fn name(&self, variable: Variable) -> String {
        match variable {
            Variable::Global(at) => self.program.globals[at].clone(),
            Variable::Local(at) => format!("parameter {}", at + 1),
        }
    }

    pub(super) fn get(&mut self, variable: Variable) -> Outcome<Value> {
        if variable == Variable::Global(special::NF) {
            #[allow(clippy::cast_precision_loss)] // bounded
            return Ok(Value::Number(self.record.count() as f64));
        }
        match self.slot(variable) {
            Slot::Scalar(value) => Ok(value.clone()),
            Slot::Table(_) => {
                Err(Stop::Error(format!("{}: an array where a value is needed", self.name(variable))))
            }
        }
    }

    pub(super) fn set(&mut self, variable: Variable, value: Value) -> Outcome<()> {
        let Slot::Scalar(held) = self.slot(variable) else {
            return Err(Stop::Error(format!("{}: an array cannot be given a value", self.name(variable))));
        };
        *held = value.clone();
        match variable {
            Variable::Global(at) if at <= special::CONVFMT => self.follow(at, &value),
            _ => Ok(()),
        }
    }

    /// What else changes with a variable that every program has.
    fn follow(&mut self, at: usize, value: &Value) -> Outcome<()> {
        let text = || value.to_text(b"%.6g");
        match at {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            // negative is none; the record has a bound
            special::NF => self.record.set_count(value.number() as usize)?,
            special::FS => self.splitter = Rc::new(self.splitter_of(&text())?),
            special::OFS => {
                // Fields that were changed before are joined by what held then.
                self.field(0);
                self.joint = text();
            }
            special::CONVFMT => self.convfmt = text(),
            special::RS => {
                self.ending = match &*text() {
                    [] => Ending::Paragraph,
                    [byte] => Ending::Byte(*byte),
                    longer => Ending::Pattern(self.pattern(&longer.into())?),
                };
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn splitter_of(&mut self, text: &Text) -> Outcome<Splitter> {
        let compile = |_: &[u8]| match self.pattern(text) {
            Ok(pattern) => Ok(pattern),
            Err(Stop::Error(cause)) => Err(cause),
            Err(_) => Err("a pattern ends nothing".into()),
        };
        Ok(Splitter::of(text, compile)?)
    }

    pub(super) fn current_splitter(&self) -> Rc<Splitter> {
        Rc::clone(&self.splitter)
    }

    /// The array that a variable is, or becomes where nothing was given to it.
    pub(super) fn table(&mut self, variable: Variable) -> Outcome<Table> {
        match self.slot(variable) {
            Slot::Table(table) => Ok(Rc::clone(table)),
            slot @ Slot::Scalar(Value::Nothing) => {
                let table = Table::default();
                *slot = Slot::Table(Rc::clone(&table));
                Ok(table)
            }
            Slot::Scalar(_) => {
                Err(Stop::Error(format!("{}: a value where an array is needed", self.name(variable))))
            }
        }
    }
}

/// `NAME=VALUE` with a valid name.
pub(super) fn assignment(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (&text[..at], &text[at + 1..]);
    let letter = |byte: &u8| *byte == b'_' || byte.is_ascii_alphanumeric();
    (name.first().is_some_and(|first| !first.is_ascii_digit()) && name.iter().all(letter))
        .then_some((name, value))
}

/// Whole numbers first, by their size, then texts: a loop over an array has the same order each time.
fn order(key: &Text) -> (bool, u64, Text) {
    let number = std::str::from_utf8(key).ok().and_then(|text| text.parse::<u64>().ok());
    (number.is_none(), number.unwrap_or(0), Rc::clone(key))
}
