//! How hard requests look.

use super::question;
use crate::{Class, class};
use octant_llm::{Effort, Format, Image, Json, Part, Reasoning, Request, Tool};

fn with(change: impl Fn(&mut Request)) -> (Class, u32) {
    let mut request = question("What is the capital of France?");
    change(&mut request);
    let found = class(&request);
    (found.class, found.points.iter().map(|(_, points)| points).sum())
}

fn tools(count: usize) -> Vec<Tool> {
    let tool =
        |index| Tool { name: format!("t{index}"), description: None, schema: Json::empty(), strict: None };
    (0..count).map(tool).collect()
}

fn thinking(effort: Option<Effort>, budget: Option<u64>) -> Option<Reasoning> {
    Some(Reasoning { effort, budget, shown: false })
}

#[test]
fn each_measure_has_its_points() {
    let text = |request: &mut Request, length: usize| request.system = vec![Part::Text("x".repeat(length))];
    let turns = |request: &mut Request, count: usize| {
        let one = request.messages[0].clone();
        request.messages = vec![one; count];
    };
    assert_eq!(with(|_| ()), (Class::Simple, 0));
    assert_eq!(with(|request| text(request, 1900)).1, 0);
    assert_eq!(with(|request| text(request, 2000)).1, 1);
    assert_eq!(with(|request| text(request, 16_000)).1, 2);
    assert_eq!(with(|request| text(request, 100_000)), (Class::Medium, 3));
    assert_eq!(with(|request| turns(request, 8)).1, 0);
    assert_eq!(with(|request| turns(request, 9)), (Class::Simple, 1));
    assert_eq!(with(|request| request.tools = tools(1)).1, 1);
    assert_eq!(with(|request| request.tools = tools(9)), (Class::Medium, 2));
    assert_eq!(
        with(|request| request.system = vec![Part::Text("```rust\nfn main() {}\n```".to_owned())]).1,
        1
    );
    let picture = || Part::Image(Image::Url("https://a.example/x.png".to_owned()));
    assert_eq!(with(|request| request.messages[0].parts.push(picture())).1, 1);
    assert_eq!(with(|request| request.format = Format::Json).1, 0);
    let schema = |request: &mut Request| {
        request.format = Format::Schema { name: "s".to_owned(), schema: Json::empty(), strict: None };
    };
    assert_eq!(with(schema).1, 1);
    assert_eq!(with(|request| request.max_output = Some(8000)).1, 0);
    assert_eq!(with(|request| request.max_output = Some(8001)).1, 1);
}

#[test]
fn reasoning_asked_for_counts_most() {
    for (effort, budget, points) in [
        (Some(Effort::None), None, 0),
        (None, Some(0), 0),
        (Some(Effort::Minimal), None, 1),
        (Some(Effort::Low), None, 1),
        (None, Some(2048), 1),
        (None, None, 2),
        (Some(Effort::Medium), None, 2),
        (None, Some(8192), 2),
        (Some(Effort::Low), Some(8193), 5),
        (Some(Effort::High), None, 5),
        (Some(Effort::Highest), None, 5),
    ] {
        let (class, found) = with(|request| request.reasoning = thinking(effort, budget));
        assert_eq!(found, points, "{effort:?} {budget:?}");
        let expected =
            [Class::Simple, Class::Medium, Class::Hard][usize::from(points > 1) + usize::from(points > 4)];
        assert_eq!(class, expected);
    }
}

#[test]
fn what_tools_gave_back_is_text_too() {
    let result = |request: &mut Request| {
        let parts = vec![Part::Text("```".repeat(1000))];
        request.messages[0].parts.push(Part::ToolResult { id: "1".to_owned(), parts, failed: false });
    };
    assert_eq!(with(result), (Class::Medium, 2), "code and its bytes");
    let hard = with(|request| {
        request.tools = tools(12);
        request.system = vec![Part::Text("```".repeat(10_000))];
    });
    assert_eq!(hard, (Class::Hard, 5));
}
