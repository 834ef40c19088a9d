//! The grammar: words to a tree. POSIX's, with `**`, `nextfile`, `delete ARRAY` and `func`.

use super::lex::{Placed, Token, words};
use super::pattern::Pattern;
use super::tree::{
    Arithmetic, Comparison, Condition, Expr, Function, Place, Program, Redirection, Rule, Source, Statement,
    Variable, special,
};
use std::collections::HashMap;
use std::rc::Rc;

/// How deep expressions and statements may stand within each other; the stack is sized for it.
const DEPTH_MAX: usize = 1000;

type Parsed<T> = Result<T, String>;

/// # Errors
/// Says what is wrong, and on which line of the program.
pub(super) fn program(text: &[u8], utf8: bool) -> Parsed<Program> {
    let mut parser = Parser {
        words: words(text)?,
        at: 0,
        utf8,
        program: Program { globals: special::NAMES.map(str::to_owned).to_vec(), ..Program::default() },
        globals: special::NAMES.iter().enumerate().map(|(at, name)| ((*name).to_owned(), at)).collect(),
        functions: HashMap::new(),
        locals: HashMap::new(),
        uses: Vec::new(),
        within: None,
        greater_redirects: false,
        depth: 0,
        loops: 0,
    };
    parser.items().map_err(|cause| format!("line {} of the program: {cause}", parser.line()))?;
    parser.finish()
}

/// An array's use of a parameter: by itself, or by being handed on to a function's parameter.
#[derive(Debug, Clone, Copy)]
enum Use {
    Array(usize, usize),
    Handed(usize, usize, usize, usize),
}

struct Parser {
    words: Vec<Placed>,
    at: usize,
    utf8: bool,
    program: Program,
    globals: HashMap<String, usize>,
    functions: HashMap<String, usize>,
    locals: HashMap<String, usize>,
    uses: Vec<Use>,
    /// The function whose body is read.
    within: Option<usize>,
    /// In what `print` prints `>` begins the name of a file, until a parenthesis.
    greater_redirects: bool,
    depth: usize,
    loops: usize,
}

impl Parser {
    fn line(&self) -> usize {
        self.words.get(self.at).or(self.words.last()).map_or(1, |(_, line)| *line)
    }

    fn token(&self) -> &Token {
        self.ahead(0)
    }

    fn ahead(&self, by: usize) -> &Token {
        self.words.get(self.at + by).map_or(&Token::End, |(token, _)| token)
    }

    fn is(&self, mark: &str) -> bool {
        matches!(self.token(), Token::Mark(found) if *found == mark)
    }

    fn accept(&mut self, mark: &str) -> bool {
        let found = self.is(mark);
        self.at += usize::from(found);
        found
    }

    fn accept_word(&mut self, keyword: &str) -> bool {
        let found = matches!(self.token(), Token::Keyword(found) if *found == keyword);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, mark: &str) -> Parsed<()> {
        if self.accept(mark) { Ok(()) } else { Err(format!("{mark} is missing before {}", self.shown())) }
    }

    fn shown(&self) -> String {
        match self.token() {
            Token::Newline => "the end of the line".into(),
            Token::End => "the end of the program".into(),
            Token::Mark(text) | Token::Keyword(text) | Token::Builtin(text) => (*text).to_owned(),
            Token::Name(name) | Token::Called(name) => name.clone(),
            Token::Number(number) => number.to_string(),
            Token::Text(text) => format!("\"{}\"", String::from_utf8_lossy(text)),
            Token::Pattern(text) => format!("/{}/", String::from_utf8_lossy(text)),
        }
    }

    fn skip_newlines(&mut self) {
        while *self.token() == Token::Newline {
            self.at += 1;
        }
    }

    fn skip_ends(&mut self) {
        while *self.token() == Token::Newline || self.is(";") {
            self.at += 1;
        }
    }

    /// Counts how deep it goes.
    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("more than {DEPTH_MAX} expressions and statements within each other"));
        }
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn items(&mut self) -> Parsed<()> {
        loop {
            self.skip_ends();
            match self.token() {
                Token::End => return Ok(()),
                Token::Keyword("function") => self.function()?,
                Token::Keyword("BEGIN") => {
                    self.at += 1;
                    let block = self.block()?;
                    self.program.begin.push(block);
                }
                Token::Keyword("END") => {
                    self.at += 1;
                    let block = self.block()?;
                    self.program.end.push(block);
                }
                _ => self.rule()?,
            }
            // One rule may follow another's } on its line.
            let behind_block = matches!(self.words.get(self.at.wrapping_sub(1)), Some((Token::Mark("}"), _)));
            if !behind_block && !matches!(self.token(), Token::End | Token::Newline | Token::Mark(";")) {
                return Err(format!("{} is not expected here", self.shown()));
            }
        }
    }

    fn rule(&mut self) -> Parsed<()> {
        let condition = if self.is("{") {
            Condition::Always
        } else {
            let first = self.expr()?;
            if self.accept(",") {
                self.skip_newlines();
                self.program.ranges += 1;
                Condition::Range(first, self.expr()?, self.program.ranges - 1)
            } else {
                Condition::If(first)
            }
        };
        let action = if self.is("{") { Some(self.block()?) } else { None };
        self.program.rules.push(Rule { condition, action });
        Ok(())
    }

    fn function(&mut self) -> Parsed<()> {
        self.at += 1;
        let (Token::Name(name) | Token::Called(name)) = self.token().clone() else {
            return Err(format!("{} is no name for a function", self.shown()));
        };
        self.at += 1;
        let at = self.function_at(&name);
        if self.program.functions[at].body.is_some() {
            return Err(format!("{name}: a second function of that name"));
        }
        self.expect("(")?;
        self.skip_newlines();
        while let Token::Name(parameter) = self.token().clone() {
            self.at += 1;
            if parameter == name || self.locals.insert(parameter.clone(), self.locals.len()).is_some() {
                return Err(format!("{name}: {parameter} stands for more than one thing"));
            }
            self.skip_newlines();
            if !self.accept(",") {
                break;
            }
            self.skip_newlines();
        }
        self.expect(")")?;
        self.skip_newlines();
        self.program.functions[at].arrays = vec![false; self.locals.len()];
        self.within = Some(at);
        let body = self.block()?;
        self.within = None;
        self.locals.clear();
        self.program.functions[at].body = Some(body);
        Ok(())
    }

    fn function_at(&mut self, name: &str) -> usize {
        if let Some(at) = self.functions.get(name) {
            return *at;
        }
        self.program.functions.push(Function { name: name.to_owned(), ..Function::default() });
        self.functions.insert(name.to_owned(), self.program.functions.len() - 1);
        self.program.functions.len() - 1
    }

    fn variable(&mut self, name: &str) -> Variable {
        if let Some(local) = self.locals.get(name) {
            return Variable::Local(*local);
        }
        if let Some(global) = self.globals.get(name) {
            return Variable::Global(*global);
        }
        self.program.globals.push(name.to_owned());
        self.globals.insert(name.to_owned(), self.program.globals.len() - 1);
        Variable::Global(self.program.globals.len() - 1)
    }

    /// A variable that is used as an array.
    fn array(&mut self, name: &str) -> Variable {
        let variable = self.variable(name);
        if let (Variable::Local(local), Some(function)) = (variable, self.within) {
            self.uses.push(Use::Array(function, local));
        }
        variable
    }

    /// Finds which parameters are arrays, handed on from function to function, and whether all functions are there.
    fn finish(mut self) -> Parsed<Program> {
        for function in &self.program.functions {
            if function.body.is_none() {
                return Err(format!("{}: no such function", function.name));
            }
        }
        for name in self.functions.keys() {
            if self.globals.contains_key(name) {
                return Err(format!("{name}: both a function and a variable"));
            }
        }
        let functions = &mut self.program.functions;
        let mut changed = true;
        while changed {
            changed = false;
            for found in &self.uses {
                let (function, parameter) = match *found {
                    Use::Array(function, parameter) => (function, parameter),
                    Use::Handed(function, parameter, to, at) => {
                        if functions[to].arrays.get(at) != Some(&true) {
                            continue;
                        }
                        (function, parameter)
                    }
                };
                if !functions[function].arrays[parameter] {
                    functions[function].arrays[parameter] = true;
                    changed = true;
                }
            }
        }
        Ok(self.program)
    }
}

/// Statements.
impl Parser {
    fn block(&mut self) -> Parsed<Statement> {
        self.expect("{")?;
        let mut statements = Vec::new();
        loop {
            self.skip_ends();
            if self.accept("}") {
                return Ok(Statement::Block(statements));
            }
            if *self.token() == Token::End {
                return Err("a { without its }".into());
            }
            statements.push(self.statement()?);
        }
    }

    fn statement(&mut self) -> Parsed<Statement> {
        self.deeper(Self::any_statement)
    }

    fn any_statement(&mut self) -> Parsed<Statement> {
        match self.token() {
            Token::Mark("{") => self.block(),
            Token::Mark(";") => {
                self.at += 1;
                Ok(Statement::Block(Vec::new()))
            }
            Token::Keyword("if") => self.choice(),
            Token::Keyword("while") => {
                self.at += 1;
                let condition = self.parenthesised()?;
                Ok(Statement::While(condition, Box::new(self.body(true)?)))
            }
            Token::Keyword("do") => {
                self.at += 1;
                let body = self.body(true)?;
                self.skip_ends();
                if !self.accept_word("while") {
                    return Err("a do without its while".into());
                }
                let condition = self.parenthesised()?;
                self.end_of_statement()?;
                Ok(Statement::Do(Box::new(body), condition))
            }
            Token::Keyword("for") => self.for_loop(),
            _ => {
                let statement = self.simple()?;
                self.end_of_statement()?;
                Ok(statement)
            }
        }
    }

    fn end_of_statement(&mut self) -> Parsed<()> {
        match self.token() {
            Token::Newline | Token::Mark(";") => {
                self.at += 1;
                Ok(())
            }
            Token::Mark("}") | Token::End => Ok(()),
            _ => Err(format!("{} is not expected here", self.shown())),
        }
    }

    fn parenthesised(&mut self) -> Parsed<Expr> {
        self.expect("(")?;
        let condition = self.expr()?;
        self.expect(")")?;
        Ok(condition)
    }

    fn body(&mut self, of_a_loop: bool) -> Parsed<Statement> {
        self.skip_newlines();
        self.loops += usize::from(of_a_loop);
        let body = self.statement();
        self.loops -= usize::from(of_a_loop);
        body
    }

    fn choice(&mut self) -> Parsed<Statement> {
        self.at += 1;
        let condition = self.parenthesised()?;
        let then = self.body(false)?;
        // An else may stand behind any number of ends; without one they are not this statement's.
        let behind = self.at;
        self.skip_ends();
        if self.accept_word("else") {
            let other = self.body(false)?;
            return Ok(Statement::If(condition, Box::new(then), Some(Box::new(other))));
        }
        self.at = behind;
        Ok(Statement::If(condition, Box::new(then), None))
    }

    fn for_loop(&mut self) -> Parsed<Statement> {
        self.at += 1;
        self.expect("(")?;
        if let (Token::Name(name), Token::Keyword("in"), Token::Name(array), Token::Mark(")")) =
            (self.ahead(0).clone(), self.ahead(1), self.ahead(2).clone(), self.ahead(3))
        {
            self.at += 4;
            let (variable, array) = (self.variable(&name), self.array(&array));
            return Ok(Statement::ForIn(variable, array, Box::new(self.body(true)?)));
        }
        let first = if self.is(";") { None } else { Some(Box::new(self.simple()?)) };
        self.expect(";")?;
        self.skip_newlines();
        let condition = if self.is(";") { None } else { Some(self.expr()?) };
        self.expect(";")?;
        self.skip_newlines();
        let step = if self.is(")") { None } else { Some(Box::new(self.simple()?)) };
        self.expect(")")?;
        let body = Box::new(self.body(true)?);
        Ok(Statement::For { first, condition, step, body })
    }

    fn simple(&mut self) -> Parsed<Statement> {
        let Token::Keyword(word) = *self.token() else { return Ok(Statement::Expr(self.expr()?)) };
        if matches!(word, "getline") {
            return Ok(Statement::Expr(self.expr()?));
        }
        self.at += 1;
        match word {
            "print" | "printf" => self.print(word == "printf"),
            "next" | "nextfile" if self.within.is_none() && self.outside_of_records() => {
                Err(format!("{word} in BEGIN or END, where there is no record"))
            }
            "next" => Ok(Statement::Next),
            "nextfile" => Ok(Statement::NextFile),
            "break" | "continue" if self.loops == 0 => Err(format!("{word} outside of a loop")),
            "break" => Ok(Statement::Break),
            "continue" => Ok(Statement::Continue),
            "exit" => Ok(Statement::Exit(self.optional()?)),
            "return" if self.within.is_none() => Err("return outside of a function".into()),
            "return" => Ok(Statement::Return(self.optional()?)),
            "delete" => {
                let Token::Name(name) = self.token().clone() else {
                    return Err(format!("{} is no array to delete from", self.shown()));
                };
                self.at += 1;
                let array = self.array(&name);
                let subscripts = if self.accept("[") { self.subscripts()? } else { Vec::new() };
                Ok(Statement::Delete(array, subscripts))
            }
            _ => Err(format!("{word} is not expected here")),
        }
    }

    /// Whether the block that is read is one of BEGIN or END: no rule's and no function's word opened it.
    fn outside_of_records(&self) -> bool {
        let mut open = 0_usize;
        for at in (0..self.at).rev() {
            match &self.words[at].0 {
                Token::Mark("}") => open += 1,
                Token::Mark("{") if open > 0 => open -= 1,
                Token::Mark("{") => {
                    let before = at.checked_sub(1).map(|before| &self.words[before].0);
                    if matches!(before, Some(Token::Keyword("BEGIN" | "END"))) {
                        return true;
                    }
                }
                _ => {}
            }
        }
        false
    }

    fn optional(&mut self) -> Parsed<Option<Expr>> {
        match self.token() {
            Token::Newline | Token::End | Token::Mark(";" | "}") => Ok(None),
            _ => Ok(Some(self.expr()?)),
        }
    }

    fn print(&mut self, formatted: bool) -> Parsed<Statement> {
        let values = if self.is("(") && self.whole_list_is_parenthesised() {
            self.at += 1;
            let values = self.list(")")?;
            self.expect(")")?;
            values
        } else if matches!(
            self.token(),
            Token::Newline | Token::End | Token::Mark(";" | "}" | ">" | ">>" | "|")
        ) {
            Vec::new()
        } else {
            let outer = std::mem::replace(&mut self.greater_redirects, true);
            let values = self.list("");
            self.greater_redirects = outer;
            values?
        };
        if formatted && values.is_empty() {
            return Err("printf without a format".into());
        }
        let outer = std::mem::replace(&mut self.greater_redirects, true);
        let target = self.redirection();
        self.greater_redirects = outer;
        let target = target?;
        Ok(if formatted { Statement::Printf(values, target) } else { Statement::Print(values, target) })
    }

    fn redirection(&mut self) -> Parsed<Option<Redirection>> {
        Ok(if self.accept(">") {
            Some(Redirection::File(self.join()?))
        } else if self.accept(">>") {
            Some(Redirection::Append(self.join()?))
        } else if self.accept("|") {
            Some(Redirection::Command(self.join()?))
        } else {
            None
        })
    }

    /// `print (a, b)` and `print (a, b) > "file"`, but not `print (a) b`.
    fn whole_list_is_parenthesised(&self) -> bool {
        let mut open = 0_usize;
        for ahead in 0.. {
            match self.ahead(ahead) {
                Token::Mark("(") => open += 1,
                Token::Mark(")") => open -= 1,
                Token::End => return false,
                _ => {}
            }
            if open == 0 {
                let behind = self.ahead(ahead + 1);
                return matches!(
                    behind,
                    Token::Newline | Token::End | Token::Mark(";" | "}" | ">" | ">>" | "|")
                );
            }
        }
        false
    }
}

/// Expressions, from those that bind least to those that bind most.
impl Parser {
    fn expr(&mut self) -> Parsed<Expr> {
        self.deeper(Self::choice_expr)
    }

    fn choice_expr(&mut self) -> Parsed<Expr> {
        let condition = self.or()?;
        if self.accept("?") {
            self.skip_newlines();
            let then = self.expr()?;
            self.skip_newlines();
            self.expect(":")?;
            self.skip_newlines();
            let other = self.expr()?;
            return Ok(Expr::Choice(Box::new(condition), Box::new(then), Box::new(other)));
        }
        Ok(condition)
    }

    /// An assignment binds its place as tightly as any sign: `a && b = 1` is `a && (b = 1)`.
    fn assigned(&mut self, value: Expr) -> Parsed<Expr> {
        let with = match self.token() {
            Token::Mark("=") => None,
            Token::Mark("+=") => Some(Arithmetic::Add),
            Token::Mark("-=") => Some(Arithmetic::Subtract),
            Token::Mark("*=") => Some(Arithmetic::Multiply),
            Token::Mark("/=") => Some(Arithmetic::Divide),
            Token::Mark("%=") => Some(Arithmetic::Remainder),
            Token::Mark("^=") => Some(Arithmetic::Power),
            _ => return Ok(value),
        };
        let Expr::Place(place) = value else {
            return Err("what is left of the = cannot be given a value".into());
        };
        self.at += 1;
        self.skip_newlines();
        Ok(Expr::Assign(place, with, Box::new(self.expr()?)))
    }

    fn or(&mut self) -> Parsed<Expr> {
        let mut left = self.and()?;
        while self.accept("||") {
            self.skip_newlines();
            left = Expr::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Parsed<Expr> {
        let mut left = self.membership()?;
        while self.accept("&&") {
            self.skip_newlines();
            left = Expr::And(Box::new(left), Box::new(self.membership()?));
        }
        Ok(left)
    }

    fn membership(&mut self) -> Parsed<Expr> {
        let mut left = self.matching()?;
        while self.accept_word("in") {
            let array = self.array_name()?;
            left = Expr::In(vec![left], array);
        }
        Ok(left)
    }

    fn array_name(&mut self) -> Parsed<Variable> {
        let Token::Name(name) = self.token().clone() else {
            return Err(format!("{} is no array", self.shown()));
        };
        self.at += 1;
        Ok(self.array(&name))
    }

    fn matching(&mut self) -> Parsed<Expr> {
        let mut left = self.comparison()?;
        loop {
            let negated = self.is("!~");
            if !negated && !self.is("~") {
                return Ok(left);
            }
            self.at += 1;
            let right = self.comparison()?;
            left = Expr::Matches(Box::new(left), Box::new(right));
            if negated {
                left = Expr::Not(Box::new(left));
            }
        }
    }

    fn comparison(&mut self) -> Parsed<Expr> {
        let left = self.join()?;
        let how = match self.token() {
            Token::Mark("<") => Comparison::Less,
            Token::Mark("<=") => Comparison::LessOrEqual,
            Token::Mark("==") => Comparison::Equal,
            Token::Mark("!=") => Comparison::NotEqual,
            Token::Mark(">") if !self.greater_redirects => Comparison::Greater,
            Token::Mark(">=") => Comparison::GreaterOrEqual,
            _ => return Ok(left),
        };
        self.at += 1;
        let right = self.join()?;
        Ok(Expr::Compare(how, Box::new(left), Box::new(right)))
    }

    /// Values side by side, and `COMMAND | getline`.
    fn join(&mut self) -> Parsed<Expr> {
        let mut left = self.sum()?;
        loop {
            if self.is("|") && *self.ahead(1) == Token::Keyword("getline") {
                self.at += 2;
                let place = self.getline_place()?;
                left = Expr::Getline(Source::Command(Box::new(left)), place);
            } else if self.begins_a_value() {
                left = Expr::Join(Box::new(left), Box::new(self.sum()?));
            } else {
                return Ok(left);
            }
        }
    }

    /// A sign does not: `a -1` is a difference.
    fn begins_a_value(&self) -> bool {
        match self.token() {
            Token::Number(_)
            | Token::Text(_)
            | Token::Pattern(_)
            | Token::Name(_)
            | Token::Called(_)
            | Token::Builtin(_) => true,
            Token::Mark(mark) => matches!(*mark, "$" | "!" | "(" | "++" | "--"),
            _ => false,
        }
    }

    fn sum(&mut self) -> Parsed<Expr> {
        let mut left = self.product()?;
        loop {
            let how = match self.token() {
                Token::Mark("+") => Arithmetic::Add,
                Token::Mark("-") => Arithmetic::Subtract,
                _ => return Ok(left),
            };
            self.at += 1;
            left = Expr::Arithmetic(how, Box::new(left), Box::new(self.product()?));
        }
    }

    fn product(&mut self) -> Parsed<Expr> {
        let mut left = self.signed()?;
        loop {
            let how = match self.token() {
                Token::Mark("*") => Arithmetic::Multiply,
                Token::Mark("/") => Arithmetic::Divide,
                Token::Mark("%") => Arithmetic::Remainder,
                _ => return Ok(left),
            };
            self.at += 1;
            left = Expr::Arithmetic(how, Box::new(left), Box::new(self.signed()?));
        }
    }

    fn signed(&mut self) -> Parsed<Expr> {
        if self.accept("!") {
            return self.deeper(|parser| Ok(Expr::Not(Box::new(parser.signed()?))));
        }
        if self.accept("-") {
            return self.deeper(|parser| Ok(Expr::Negate(Box::new(parser.signed()?))));
        }
        if self.accept("+") {
            return self.deeper(|parser| Ok(Expr::Plus(Box::new(parser.signed()?))));
        }
        self.power()
    }

    fn power(&mut self) -> Parsed<Expr> {
        let base = self.stepped()?;
        if self.accept("^") {
            // From the right: the exponent may have a sign, and a power of its own.
            let exponent = self.deeper(Self::signed)?;
            return Ok(Expr::Arithmetic(Arithmetic::Power, Box::new(base), Box::new(exponent)));
        }
        Ok(base)
    }

    fn stepped(&mut self) -> Parsed<Expr> {
        let by = if self.is("++") { 1.0 } else { -1.0 };
        if self.accept("++") || self.accept("--") {
            return match self.value()? {
                Expr::Place(place) => Ok(Expr::Step { place, by, before: false }),
                _ => Err("++ or -- before what cannot be given a value".into()),
            };
        }
        let value = self.value()?;
        let by = if self.is("++") { 1.0 } else { -1.0 };
        match value {
            Expr::Place(place) if self.is("++") || self.is("--") => {
                self.at += 1;
                Ok(Expr::Step { place, by, before: true })
            }
            other => self.assigned(other),
        }
    }

    fn value(&mut self) -> Parsed<Expr> {
        let token = self.token().clone();
        self.at += 1;
        match token {
            Token::Number(number) => Ok(Expr::Number(number)),
            Token::Text(text) => Ok(Expr::Text(text.into())),
            Token::Pattern(text) => Ok(Expr::Pattern(Rc::new(Pattern::new(&text, self.utf8)?))),
            Token::Mark("$") => {
                let field = self.deeper(|parser| match parser.token() {
                    Token::Mark("-" | "+" | "!") => parser.signed(),
                    Token::Mark("++" | "--") => parser.stepped(),
                    _ => parser.value(),
                })?;
                Ok(Expr::Place(Place::Field(Box::new(field))))
            }
            Token::Mark("(") => self.group(),
            Token::Mark("-") => Ok(Expr::Negate(Box::new(self.deeper(Self::signed)?))),
            Token::Mark("+") => Ok(Expr::Plus(Box::new(self.deeper(Self::signed)?))),
            Token::Mark("!") => Ok(Expr::Not(Box::new(self.deeper(Self::signed)?))),
            Token::Keyword("getline") => {
                let place = self.getline_place()?;
                let source = if self.accept("<") {
                    Source::File(Box::new(self.deeper(Self::stepped)?))
                } else {
                    Source::Main
                };
                Ok(Expr::Getline(source, place))
            }
            Token::Builtin(name) => self.builtin(name),
            Token::Called(name) => self.call(&name),
            Token::Name(name) => {
                if self.accept("[") {
                    let array = self.array(&name);
                    return Ok(Expr::Place(Place::Element(array, self.subscripts()?)));
                }
                Ok(Expr::Place(Place::Variable(self.variable(&name))))
            }
            _ => {
                self.at -= 1;
                Err(format!("{} is not expected here", self.shown()))
            }
        }
    }

    fn getline_place(&mut self) -> Parsed<Option<Place>> {
        if !matches!(self.token(), Token::Name(_) | Token::Mark("$")) {
            return Ok(None);
        }
        match self.deeper(Self::value)? {
            Expr::Place(place) => Ok(Some(place)),
            _ => Err("getline into what cannot be given a value".into()),
        }
    }

    /// `(a)`, or `(a, b) in c`.
    fn group(&mut self) -> Parsed<Expr> {
        let mut inner = self.list(")")?;
        self.expect(")")?;
        if inner.len() == 1 {
            // What is in parentheses is no place: `(a) = 1` is refused, but `$(1)++` and `(x)++` have to work.
            return inner.pop().ok_or_else(String::new);
        }
        if inner.is_empty() || !self.accept_word("in") {
            return Err("several values in parentheses without an in".into());
        }
        Ok(Expr::In(inner, self.array_name()?))
    }

    fn subscripts(&mut self) -> Parsed<Vec<Expr>> {
        let subscripts = self.list("]")?;
        self.expect("]")?;
        if subscripts.is_empty() { Err("[] without what is in them".into()) } else { Ok(subscripts) }
    }

    /// Values with commas between them, up to the mark. Within brackets `>` compares.
    fn list(&mut self, end: &str) -> Parsed<Vec<Expr>> {
        let outer = self.greater_redirects;
        self.greater_redirects = outer && end.is_empty();
        let mut list = Vec::new();
        if !end.is_empty() {
            self.skip_newlines();
        }
        while end.is_empty() || !self.is(end) {
            list.push(self.expr()?);
            if !end.is_empty() {
                self.skip_newlines();
            }
            if !self.accept(",") {
                break;
            }
            self.skip_newlines();
        }
        self.greater_redirects = outer;
        Ok(list)
    }

    fn call(&mut self, name: &str) -> Parsed<Expr> {
        let at = self.function_at(name);
        self.expect("(")?;
        let values = self.list(")")?;
        self.expect(")")?;
        if let Some(within) = self.within {
            for (parameter, value) in values.iter().enumerate() {
                if let Expr::Place(Place::Variable(Variable::Local(local))) = value {
                    self.uses.push(Use::Handed(within, *local, at, parameter));
                }
            }
        }
        Ok(Expr::Call(at, values))
    }

    fn builtin(&mut self, name: &'static str) -> Parsed<Expr> {
        if name == "length" && !self.is("(") {
            return Ok(Expr::Builtin(name, Vec::new()));
        }
        self.expect("(")?;
        let split_to = if name == "split" { self.split_target() } else { None };
        let values = self.list(")")?;
        self.expect(")")?;
        let (least, most) = match name {
            "rand" | "systime" => (0, 0),
            "srand" | "length" | "fflush" => (0, 1),
            "atan2" | "index" | "match" => (2, 2),
            "substr" | "sub" | "gsub" | "split" => (2, 3),
            "sprintf" => (1, usize::MAX),
            _ => (1, 1),
        };
        if values.len() < least || values.len() > most {
            return Err(format!("{name} with {} values", values.len()));
        }
        if matches!(name, "sub" | "gsub")
            && values.get(2).is_some_and(|value| !matches!(value, Expr::Place(_)))
        {
            return Err(format!("{name} in what cannot be given a value"));
        }
        if name == "split" {
            match &values[1] {
                Expr::Place(Place::Variable(variable)) if split_to.is_none_or(|to| to == *variable) => {}
                _ => return Err("split into what is no array".into()),
            }
        }
        Ok(Expr::Builtin(name, values))
    }

    /// The array that `split` fills, which must be known as one where it is a parameter.
    fn split_target(&mut self) -> Option<Variable> {
        let mut open = 0_usize;
        for ahead in 0.. {
            match self.ahead(ahead) {
                Token::Mark("(" | "[") => open += 1,
                Token::Mark(")" | "]") if open == 0 => return None,
                Token::Mark(")" | "]") => open -= 1,
                Token::Mark(",") if open == 0 => {
                    let Token::Name(name) = self.ahead(ahead + 1).clone() else { return None };
                    return Some(self.array(&name));
                }
                Token::End => return None,
                _ => {}
            }
        }
        None
    }
}
