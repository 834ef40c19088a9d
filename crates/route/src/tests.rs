//! Tests of the parts together.

mod budget;
mod cache;
mod catalogue;
mod choose;
mod complexity;
mod health;
mod retry;
mod simulation;

use crate::{Abilities, Ability, Catalogue, Class, DataClass, Wish};
use octant_llm::{Failure, Kind, Message, Part, Request, Role};
use octant_manifest::{NamePattern, PatternSet};

fn read(text: &str) -> Catalogue {
    Catalogue::read(text).unwrap_or_else(|faults| panic!("{faults}"))
}

fn allowed(patterns: &[&str]) -> PatternSet<NamePattern> {
    patterns.iter().map(|pattern| pattern.parse::<NamePattern>().unwrap()).collect()
}

fn wish<'a>(asked: &'a str, allowed: &'a PatternSet<NamePattern>) -> Wish<'a> {
    Wish {
        asked,
        allowed,
        needs: Abilities::from(vec![Ability::Answers]),
        data: DataClass::Any,
        cap: None,
        priced: false,
        input: 1000,
        output: Some(100),
        class: Class::Medium,
        strategy: None,
        seed: 7,
    }
}

fn failure(kind: Kind) -> Failure {
    Failure::new(kind, "as the test says")
}

fn question(text: &str) -> Request {
    let parts = vec![Part::Text(text.to_owned())];
    Request { messages: vec![Message { role: Role::User, parts }], ..Request::default() }
}

/// So many deployments `d0`, `d1`, ... of one provider without keys, in a group `g`, with these lines for each.
fn lab(count: usize, lines: &str) -> String {
    let mut text = "[[provider]]\nname = \"lab\"\nbase = \"https://lab.example/v1\"\ndialect = \"chat\"\nauth = \"none\"\n".to_owned();
    let mut names = Vec::new();
    for index in 0..count {
        text += &format!(
            "[[deployment]]\nname = \"d{index}\"\nprovider = \"lab\"\nmodel = \"m{index}\"\n{lines}\n"
        );
        names.push(format!("\"d{index}\""));
    }
    text + &format!("[[group]]\nname = \"g\"\ndeployments = [{}]\n", names.join(", "))
}
