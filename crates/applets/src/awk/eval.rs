//! Walks expressions.

use super::run::{CALLS_MAX, Machine, Outcome, Slot, Stop, Table, failed};
use super::tree::{Arithmetic, Comparison, Expr, Place, Source, Variable, special};
use super::value::{Text, Value};
use std::cmp::Ordering;
use std::rc::Rc;

/// A place whose field number or subscript is worked out.
pub(super) enum Spot {
    Variable(Variable),
    Field(usize),
    Element(Table, Text),
}

impl<'a> Machine<'a> {
    pub(super) fn eval(&mut self, expr: &'a Expr) -> Outcome<Value> {
        Ok(match expr {
            Expr::Number(number) => Value::Number(*number),
            Expr::Text(text) => Value::Text(Rc::clone(text)),
            Expr::Pattern(pattern) => {
                let record = self.field(0).to_text(&self.convfmt);
                Value::truth(pattern.is_match(&record))
            }
            Expr::Place(Place::Variable(variable)) => self.get(*variable)?,
            Expr::Place(place) => {
                let spot = self.spot(place)?;
                self.at(&spot)?
            }
            Expr::Assign(place, with, value) => return self.assigned(place, *with, value),
            Expr::Step { place, by, before } => {
                let spot = self.spot(place)?;
                let old = self.at(&spot)?.number();
                self.put(&spot, Value::Number(old + by))?;
                Value::Number(if *before { old } else { old + by })
            }
            Expr::Choice(condition, then, other) => {
                return if self.eval(condition)?.is_true() { self.eval(then) } else { self.eval(other) };
            }
            Expr::And(left, right) => Value::truth(self.eval(left)?.is_true() && self.eval(right)?.is_true()),
            Expr::Or(left, right) => Value::truth(self.eval(left)?.is_true() || self.eval(right)?.is_true()),
            Expr::Not(inner) => Value::truth(!self.eval(inner)?.is_true()),
            Expr::Negate(inner) => Value::Number(-self.eval(inner)?.number()),
            Expr::Plus(inner) => Value::Number(self.eval(inner)?.number()),
            Expr::Arithmetic(how, left, right) => {
                let (left, right) = (self.eval(left)?.number(), self.eval(right)?.number());
                Value::Number(calculate(*how, left, right)?)
            }
            Expr::Join(left, right) => {
                let (left, right) = (self.text(left)?, self.text(right)?);
                Value::Text([&*left, &*right].concat().into())
            }
            Expr::Compare(how, left, right) => {
                let (left, right) = (self.eval(left)?, self.eval(right)?);
                Value::truth(compares(*how, left.compare(&right, &self.convfmt)))
            }
            Expr::Matches(text, pattern) => {
                let text = self.text(text)?;
                Value::truth(self.as_pattern(pattern)?.is_match(&text))
            }
            Expr::In(subscripts, array) => {
                let (key, table) = (self.key(subscripts)?, self.table(*array)?);
                Value::truth(table.borrow().contains_key(&key))
            }
            Expr::Call(at, values) => return self.call(*at, values),
            Expr::Builtin(name, values) => return self.builtin(name, values),
            Expr::Getline(source, place) => return self.getline(source, place.as_ref()),
        })
    }

    pub(super) fn text(&mut self, expr: &'a Expr) -> Outcome<Text> {
        let value = self.eval(expr)?;
        Ok(value.to_text(&self.convfmt))
    }

    /// What is on the right of `~`: a pattern, or a value that is made into one.
    pub(super) fn as_pattern(&mut self, expr: &'a Expr) -> Outcome<Rc<super::pattern::Pattern>> {
        if let Expr::Pattern(pattern) = expr {
            return Ok(Rc::clone(pattern));
        }
        let text = self.text(expr)?;
        self.pattern(&text)
    }

    pub(super) fn key(&mut self, subscripts: &'a [Expr]) -> Outcome<Text> {
        if let [only] = subscripts {
            return self.text(only);
        }
        let separator = self.text_of(special::SUBSEP)?;
        let mut key = Vec::new();
        for (at, subscript) in subscripts.iter().enumerate() {
            if at > 0 {
                key.extend_from_slice(&separator);
            }
            key.extend_from_slice(&self.text(subscript)?);
        }
        Ok(key.into())
    }

    pub(super) fn spot(&mut self, place: &'a Place) -> Outcome<Spot> {
        Ok(match place {
            Place::Variable(variable) => Spot::Variable(*variable),
            Place::Field(number) => {
                let number = self.eval(number)?.number();
                if !(0.0..1e9).contains(&number.trunc()) {
                    return Err(Stop::Error(format!("${number}: no field has that number")));
                }
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // within bounds
                Spot::Field(number as usize)
            }
            Place::Element(array, subscripts) => {
                let key = self.key(subscripts)?;
                Spot::Element(self.table(*array)?, key)
            }
        })
    }

    /// An element that is asked for is there from then on.
    pub(super) fn at(&mut self, spot: &Spot) -> Outcome<Value> {
        match spot {
            Spot::Variable(variable) => self.get(*variable),
            Spot::Field(at) => Ok(self.field(*at)),
            Spot::Element(table, key) => {
                if let Some(value) = table.borrow().get(key) {
                    return Ok(value.clone());
                }
                table.borrow_mut().insert(Rc::clone(key), Value::Nothing);
                Ok(Value::Nothing)
            }
        }
    }

    pub(super) fn put(&mut self, spot: &Spot, value: Value) -> Outcome<()> {
        match spot {
            Spot::Variable(variable) => self.set(*variable, value),
            Spot::Field(at) => self.set_field(*at, value),
            Spot::Element(table, key) => {
                table.borrow_mut().insert(Rc::clone(key), value);
                Ok(())
            }
        }
    }

    fn assigned(&mut self, place: &'a Place, with: Option<Arithmetic>, value: &'a Expr) -> Outcome<Value> {
        let spot = self.spot(place)?;
        let value = match with {
            None => self.eval(value)?,
            Some(how) => {
                let right = self.eval(value)?.number();
                Value::Number(calculate(how, self.at(&spot)?.number(), right)?)
            }
        };
        self.put(&spot, value.clone())?;
        Ok(value)
    }

    fn call(&mut self, at: usize, values: &'a [Expr]) -> Outcome<Value> {
        let function = &self.program.functions[at];
        if values.len() > function.arrays.len() {
            return Err(Stop::Error(format!("{}: called with {} values", function.name, values.len())));
        }
        if self.calls >= CALLS_MAX {
            return Err(Stop::Error(format!(
                "{}: more than {CALLS_MAX} calls within each other",
                function.name
            )));
        }
        let mut frame = Vec::with_capacity(function.arrays.len());
        for (value, is_array) in values.iter().zip(&function.arrays) {
            frame.push(match value {
                Expr::Place(Place::Variable(variable)) if *is_array => Slot::Table(self.table(*variable)?),
                Expr::Place(Place::Variable(variable)) => self.handed(*variable)?,
                _ if *is_array => {
                    return Err(Stop::Error(format!("{}: called with a value for an array", function.name)));
                }
                other => Slot::Scalar(self.eval(other)?),
            });
        }
        frame.resize(function.arrays.len(), Slot::Scalar(Value::Nothing));
        let base = std::mem::replace(&mut self.base, self.locals.len());
        self.locals.append(&mut frame);
        self.calls += 1;
        let result = self.body(at);
        self.calls -= 1;
        self.locals.truncate(self.base);
        self.base = base;
        result
    }

    /// A variable as it is: a parameter that no array's use was seen of may still be handed one, as to `length`.
    fn handed(&mut self, variable: Variable) -> Outcome<Slot> {
        let slot = match variable {
            Variable::Global(at) => &self.globals[at],
            Variable::Local(at) => &self.locals[self.base + at],
        };
        match slot {
            Slot::Table(table) => Ok(Slot::Table(Rc::clone(table))),
            Slot::Scalar(_) => Ok(Slot::Scalar(self.get(variable)?)),
        }
    }

    /// 1 for a record, 0 at the end, -1 where there is nothing to read.
    fn getline(&mut self, source: &'a Source, place: Option<&'a Place>) -> Outcome<Value> {
        let text = match source {
            Source::Main => self.next_record()?,
            Source::File(name) | Source::Command(name) => {
                let command = matches!(source, Source::Command(_));
                let name = self.text(name)?;
                let ending = self.ending.clone();
                let read = match self.streams.reader(&name, command) {
                    Ok(reader) => reader.next(&ending).map(|text| text.map(<[u8]>::to_vec)),
                    Err(error) => Err(error),
                };
                match read {
                    Ok(text) => text,
                    Err(error) if command => return Err(failed(String::from_utf8_lossy(&name))(error)),
                    Err(_) => return Ok(Value::Number(-1.0)),
                }
            }
        };
        let Some(text) = text else { return Ok(Value::Number(0.0)) };
        let value = Value::Input(text.into());
        match place {
            None => self.set_field(0, value)?,
            Some(place) => {
                let spot = self.spot(place)?;
                self.put(&spot, value)?;
            }
        }
        Ok(Value::Number(1.0))
    }
}

fn calculate(how: Arithmetic, left: f64, right: f64) -> Result<f64, String> {
    Ok(match how {
        Arithmetic::Add => left + right,
        Arithmetic::Subtract => left - right,
        Arithmetic::Multiply => left * right,
        Arithmetic::Divide | Arithmetic::Remainder if right == 0.0 => return Err("division by zero".into()),
        Arithmetic::Divide => left / right,
        Arithmetic::Remainder => left % right,
        Arithmetic::Power => left.powf(right),
    })
}

fn compares(how: Comparison, order: Option<Ordering>) -> bool {
    match how {
        Comparison::Less => order == Some(Ordering::Less),
        Comparison::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        Comparison::Equal => order == Some(Ordering::Equal),
        Comparison::NotEqual => order != Some(Ordering::Equal),
        Comparison::Greater => order == Some(Ordering::Greater),
        Comparison::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    }
}
