//! The builtins `test` and `[`. brush's own describes its options anew at each call, and parses what POSIX decides by the
//! number of arguments.

use brush_core::builtins::{ContentOptions, ContentType, SimpleCommand};
use brush_core::{
    Error, ErrorKind, ExecutionContext, ExecutionExitCode, ExecutionResult, ShellExtensions, tests,
};
use brush_parser::ast::{BinaryPredicate, TestExpr};
use std::io::Write;

#[derive(Debug)]
pub(crate) struct Test;

impl SimpleCommand for Test {
    fn get_content(_name: &str, _kind: ContentType, _options: &ContentOptions) -> Result<String, Error> {
        Ok("test EXPRESSION, or [ EXPRESSION ]\n".into())
    }

    fn execute<SE: ShellExtensions, I: Iterator<Item = S>, S: AsRef<str>>(
        context: ExecutionContext<'_, SE>,
        arguments: I,
    ) -> Result<ExecutionResult, Error> {
        let mut arguments: Vec<String> = arguments.skip(1).map(|text| text.as_ref().to_owned()).collect();
        if context.command_name == "[" && arguments.pop().is_none_or(|last| last != "]") {
            writeln!(context.stderr(), "[: missing ']'")?;
            return Ok(ExecutionExitCode::InvalidUsage.into());
        }
        let expression = match quick(&mut arguments) {
            Some(expression) => expression,
            None => match brush_parser::test_command::parse(&arguments) {
                Ok(expression) => expression,
                Err(error) => {
                    let error = Error::from(ErrorKind::TestCommandParseError(error));
                    writeln!(context.stderr(), "{}: {error}", context.command_name)?;
                    return Ok(ExecutionExitCode::InvalidUsage.into());
                }
            },
        };
        match tests::eval_expr(&expression, context.shell, &context.params) {
            Ok(true) => Ok(ExecutionResult::success()),
            Ok(false) => Ok(ExecutionResult::general_error()),
            Err(error) => {
                writeln!(context.stderr(), "{}: {error}", context.command_name)?;
                Ok(ExecutionExitCode::InvalidUsage.into())
            }
        }
    }
}

/// What needs no parser: nothing, one word, two words with an operator between them. POSIX: with three arguments such
/// an operator counts before anything else.
fn quick(arguments: &mut [String]) -> Option<TestExpr> {
    match arguments {
        [] => Some(TestExpr::False),
        [word] => Some(TestExpr::Literal(std::mem::take(word))),
        [left, operator, right] => {
            let predicate = predicate(operator)?;
            Some(TestExpr::BinaryTest(predicate, std::mem::take(left), std::mem::take(right)))
        }
        _ => None,
    }
}

fn predicate(operator: &str) -> Option<BinaryPredicate> {
    Some(match operator {
        "=" | "==" => BinaryPredicate::StringExactlyMatchesString,
        "!=" => BinaryPredicate::StringDoesNotExactlyMatchString,
        "-eq" => BinaryPredicate::ArithmeticEqualTo,
        "-ne" => BinaryPredicate::ArithmeticNotEqualTo,
        "-lt" => BinaryPredicate::ArithmeticLessThan,
        "-le" => BinaryPredicate::ArithmeticLessThanOrEqualTo,
        "-gt" => BinaryPredicate::ArithmeticGreaterThan,
        "-ge" => BinaryPredicate::ArithmeticGreaterThanOrEqualTo,
        _ => return None,
    })
}

#[cfg(test)]
mod unit {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn the_number_of_arguments_decides() {
        assert!(matches!(quick(&mut words("")), Some(TestExpr::False)));
        assert!(matches!(quick(&mut words("-n")), Some(TestExpr::Literal(word)) if word == "-n"));
        assert!(matches!(
            quick(&mut words("! = !")),
            Some(TestExpr::BinaryTest(BinaryPredicate::StringExactlyMatchesString, _, _))
        ));
        for line in ["! x", "-f /x", "a -o b", "x -a -f y"] {
            assert!(quick(&mut words(line)).is_none(), "{line}");
        }
    }
}
