//! Being written.
use crate::framing::Frame;
use crate::json::{Fields, Object};
use crate::stream::Stream;
use crate::{Answer, Event, Failure, Kind, Request};

fn later() -> Failure {
    Failure::new(Kind::Untranslatable, "this dialect is not there yet")
}
pub(crate) fn read_request(_fields: Fields<'_>) -> Result<Request, Failure> {
    Err(later())
}
pub(crate) fn write_request(_object: Object<'_>, _request: &Request) -> Result<(), Failure> {
    Err(later())
}
pub(crate) fn read_answer(_fields: Fields<'_>) -> Result<Answer, Failure> {
    Err(later())
}
pub(crate) fn write_answer(_object: Object<'_>, _answer: &Answer) -> Result<(), Failure> {
    Err(later())
}
#[derive(Debug, Default)]
pub(crate) struct Reader;
impl Reader {
    pub(crate) fn frame(&mut self, _frame: Frame<'_>, _stream: &mut Stream) -> Result<(), Failure> {
        Err(later())
    }
    pub(crate) fn end(&mut self, _stream: &mut Stream) {}
}
#[derive(Debug, Default)]
pub(crate) struct Writer;
impl Writer {
    pub(crate) fn event(&mut self, _event: &Event, _out: &mut Vec<u8>) -> Result<(), Failure> {
        Err(later())
    }
}
#[derive(Debug, Default)]
pub(crate) struct Frames;
impl Frames {
    pub(crate) fn push(&mut self, _bytes: &[u8], _each: &mut dyn FnMut(Frame<'_>)) -> Result<(), Failure> {
        Err(later())
    }
}
pub(crate) fn write_exception(_failure: &Failure, _out: &mut Vec<u8>) {}
