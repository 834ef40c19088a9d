//! A program as a tree: what the parser makes and the interpreter walks.

use super::pattern::Pattern;
use super::value::Text;
use std::rc::Rc;

/// Where a variable lives: by its place among those of the program, or among the parameters of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variable {
    Global(usize),
    Local(usize),
}

/// The variables that every program has, at these places among its own.
#[rustfmt::skip] // one line a group
pub(super) mod special {
    pub(in super::super) const NAMES: [&str; 16] = [
        "NF", "NR", "FNR", "FS", "OFS", "ORS", "RS", "FILENAME", "SUBSEP", "RSTART", "RLENGTH", "CONVFMT", "OFMT", "ARGC", "ARGV",
        "ENVIRON",
    ];
    pub(in super::super) const NF: usize = 0;
    pub(in super::super) const NR: usize = 1;
    pub(in super::super) const FNR: usize = 2;
    pub(in super::super) const FS: usize = 3;
    pub(in super::super) const OFS: usize = 4;
    pub(in super::super) const ORS: usize = 5;
    pub(in super::super) const RS: usize = 6;
    pub(in super::super) const FILENAME: usize = 7;
    pub(in super::super) const SUBSEP: usize = 8;
    pub(in super::super) const RSTART: usize = 9;
    pub(in super::super) const RLENGTH: usize = 10;
    pub(in super::super) const CONVFMT: usize = 11;
    pub(in super::super) const OFMT: usize = 12;
    pub(in super::super) const ARGC: usize = 13;
    pub(in super::super) const ARGV: usize = 14;
    pub(in super::super) const ENVIRON: usize = 15;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Power,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
}

/// What may be given a value.
#[derive(Debug)]
pub(super) enum Place {
    Variable(Variable),
    Field(Box<Expr>),
    Element(Variable, Vec<Expr>),
}

/// Where `getline` reads.
#[derive(Debug)]
pub(super) enum Source {
    Main,
    File(Box<Expr>),
    Command(Box<Expr>),
}

#[derive(Debug)]
pub(super) enum Expr {
    Number(f64),
    Text(Text),
    /// A pattern by itself asks whether `$0` has it.
    Pattern(Rc<Pattern>),
    Place(Place),
    Assign(Place, Option<Arithmetic>, Box<Expr>),
    /// Whether the value is that before it.
    Step {
        place: Place,
        by: f64,
        before: bool,
    },
    Choice(Box<Expr>, Box<Expr>, Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    Plus(Box<Expr>),
    Arithmetic(Arithmetic, Box<Expr>, Box<Expr>),
    Join(Box<Expr>, Box<Expr>),
    Compare(Comparison, Box<Expr>, Box<Expr>),
    Matches(Box<Expr>, Box<Expr>),
    In(Vec<Expr>, Variable),
    /// By its place among the functions.
    Call(usize, Vec<Expr>),
    Builtin(&'static str, Vec<Expr>),
    Getline(Source, Option<Place>),
}

#[derive(Debug)]
pub(super) enum Redirection {
    File(Expr),
    Append(Expr),
    Command(Expr),
}

#[derive(Debug)]
pub(super) enum Statement {
    Expr(Expr),
    Print(Vec<Expr>, Option<Redirection>),
    Printf(Vec<Expr>, Option<Redirection>),
    If(Expr, Box<Statement>, Option<Box<Statement>>),
    While(Expr, Box<Statement>),
    Do(Box<Statement>, Expr),
    For {
        first: Option<Box<Statement>>,
        condition: Option<Expr>,
        step: Option<Box<Statement>>,
        body: Box<Statement>,
    },
    ForIn(Variable, Variable, Box<Statement>),
    Block(Vec<Statement>),
    Next,
    NextFile,
    Exit(Option<Expr>),
    Return(Option<Expr>),
    Break,
    Continue,
    Delete(Variable, Vec<Expr>),
}

#[derive(Debug)]
pub(super) enum Condition {
    Always,
    If(Expr),
    /// From a record of which the first holds to one of which the second does; its place among the ranges.
    Range(Expr, Expr, usize),
}

#[derive(Debug)]
pub(super) struct Rule {
    pub(super) condition: Condition,
    /// Without one the record is printed.
    pub(super) action: Option<Statement>,
}

#[derive(Debug, Default)]
pub(super) struct Function {
    pub(super) name: String,
    /// For each parameter whether it is an array.
    pub(super) arrays: Vec<bool>,
    pub(super) body: Option<Statement>,
}

#[derive(Debug, Default)]
pub(super) struct Program {
    pub(super) begin: Vec<Statement>,
    pub(super) rules: Vec<Rule>,
    pub(super) end: Vec<Statement>,
    pub(super) functions: Vec<Function>,
    /// Names of the variables; the first are those of [`special`].
    pub(super) globals: Vec<String>,
    pub(super) ranges: usize,
}
