//! From an upstream's answer to a program's: as it is where both speak the same, translated where they do not.

use crate::ask::{Spoken, failure_of};
use crate::http::{self, BODY_MAX, JSON, Reply};
use crate::open::Open;
use crate::scrub::Scrub;
use crate::tail::is_usage;
use crate::upstream::{Answer, Body};
use hyper::body::Bytes;
use hyper::header::{self, HeaderValue};
use octant_llm::{Cutter, Decoder, Dialect, Encoder, Event, Failure, Kind, Request, embeddings};
use tokio::sync::mpsc;

/// How many bytes of an answer may come before the first of its content.
const FIRST_MAX: usize = 1 << 20;

/// Who speaks what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Voice {
    pub(crate) ours: Dialect,
    pub(crate) theirs: Dialect,
    /// Whether what comes is passed on as it is.
    pub(crate) same: bool,
}

/// An answer that has begun, and can be passed on.
pub(crate) enum Ready {
    /// With its media type.
    Whole(&'static str, Vec<u8>),
    /// With its media type, and what has come of it.
    Stream(&'static str, Box<Stream>, Vec<u8>),
}

/// A stream on its way.
pub(crate) struct Stream {
    // Without the answer's head, whose texts hold on to the buffer that they were read into.
    body: Body,
    scrub: Scrub,
    /// Where both speak the same: what is passed on are whole events.
    cutter: Option<Cutter>,
    way: Way,
}

/// From what an upstream says to what a program gets.
struct Way {
    decoder: Decoder,
    encoder: Encoder,
    /// Whether events pass as they are.
    same: bool,
    /// Takes away what was asked for on the router's own account.
    strip: bool,
    /// Whether anything has come that cannot be taken back.
    begun: bool,
    /// Whether the program has been told how it ended: what comes behind that is for nobody.
    over: bool,
}

/// Why a stream may not go on.
enum Stop {
    /// The upstream failed, or what it says is no answer.
    Failed(Failure),
    /// It has said more than it may.
    Over(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Gives a program its answer, from here on.
pub(crate) fn reply(ready: Ready, mut open: Open, asked: String, own: String) -> Reply {
    match ready {
        Ready::Whole(kind, body) => {
            open.said(&body);
            http::whole(200, kind, body)
        }
        Ready::Stream(kind, stream, first) => {
            let (sender, body) = http::pieces();
            tokio::spawn(pump(*stream, open, first, sender, asked, own));
            let mut reply = Reply::new(body);
            reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            reply
        }
    }
}

/// Passes a stream on until it ends, may not go on, or nobody listens any more.
async fn pump(
    mut stream: Stream,
    mut open: Open,
    first: Vec<u8>,
    to: mpsc::Sender<Bytes>,
    asked: String,
    own: String,
) {
    let agent = std::sync::Arc::clone(&open.agent);
    let revoked = agent.revoked(&asked, &own);
    tokio::pin!(revoked);
    let mut out = first;
    loop {
        if !out.is_empty() {
            open.said(&out);
            if to.send(Bytes::from(std::mem::take(&mut out))).await.is_err() {
                return;
            }
        }
        let piece = tokio::select! {
            biased;
            () = to.closed() => return,
            why = &mut revoked => {
                let failure = Failure::new(Kind::Forbidden, format!("octant: {why}"));
                stream.way.fail(&failure, &mut out);
                open.failed(Failure::new(Kind::Cancelled, failure.message));
                open.said(&out);
                // Who does not read it sees the end all the same.
                let _ = to.try_send(Bytes::from(out));
                return;
            }
            piece = stream.body.next() => piece,
        };
        let ends = piece.is_none();
        let went = match piece {
            Some(Ok(bytes)) => stream.take(&bytes, &mut open, &mut out),
            Some(Err(error)) => Err(Stop::Failed(failure_of(error))),
            None => stream.end(&mut open, &mut out),
        };
        let done = ends || went.is_err();
        if let Err(stop) = went {
            stream.way.stop(stop, &mut open, &mut out);
        }
        if done {
            if !out.is_empty() {
                open.said(&out);
                let _ = to.send(Bytes::from(out)).await;
            }
            return;
        }
    }
}

impl Stream {
    /// More of it came: what is passed on goes into `out`.
    fn take(&mut self, bytes: &[u8], open: &mut Open, out: &mut Vec<u8>) -> Result<(), Stop> {
        let bytes = self.scrub.push(bytes);
        self.hear(&bytes, open, out)
    }

    fn hear(&mut self, bytes: &[u8], open: &mut Open, out: &mut Vec<u8>) -> Result<(), Stop> {
        let Self { cutter, way, .. } = self;
        match cutter {
            _ if way.over => Ok(()),
            Some(cutter) => cutter.push(bytes, &mut |event| way.hear(event, open, out)),
            None => way.hear(bytes, open, out),
        }
    }

    /// It ended: cleanly only with its terminal event.
    fn end(&mut self, open: &mut Open, out: &mut Vec<u8>) -> Result<(), Stop> {
        let rest = self.scrub.end();
        self.hear(&rest, open, out)?;
        // An event without its last line end counts if it is whole, and a program gets that line end.
        let (mut last, missing) = self.cutter.as_mut().map(Cutter::end).unwrap_or_default();
        let mut events = self.way.decoder.push(&last);
        events.extend(self.way.decoder.end());
        last.extend_from_slice(missing);
        self.way.pass(&last, &events, open, out)
    }
}

impl Way {
    /// An event came; where that is translated, any piece of one.
    fn hear(&mut self, bytes: &[u8], open: &mut Open, out: &mut Vec<u8>) -> Result<(), Stop> {
        let events = self.decoder.push(bytes);
        self.pass(bytes, &events, open, out)
    }

    /// Passes on what came and what it says. What says that it failed, or says nothing that can be understood, is not
    /// passed on: who asked is told in its own dialect, once.
    fn pass(
        &mut self,
        bytes: &[u8],
        events: &[Event],
        open: &mut Open,
        out: &mut Vec<u8>,
    ) -> Result<(), Stop> {
        if self.over {
            return Ok(());
        }
        for event in events {
            if let Event::Failed(failure) = event {
                return Err(Stop::Failed(failure.clone()));
            }
            self.begun |= !matches!(event, Event::Started { .. } | Event::Usage(_));
            open.event(event).map_err(Stop::Over)?;
            if !self.same {
                self.encoder.event(event, out);
                if let Some(failure) = self.encoder.unsaid() {
                    open.unsaid(failure.clone());
                    return Err(Stop::Failed(failure.clone()));
                }
            } else if matches!(event, Event::Started { .. }) {
                // A failure is said of this answer.
                self.encoder.event(event, &mut Vec::new());
            }
            self.over |= matches!(event, Event::Finished { .. });
        }
        if self.same && !(self.strip && is_usage(bytes)) {
            out.extend_from_slice(bytes);
        }
        Ok(())
    }

    /// It may not go on.
    fn stop(&mut self, stop: Stop, open: &mut Open, out: &mut Vec<u8>) {
        let (Stop::Failed(failure) | Stop::Over(failure)) = stop;
        self.fail(&failure, out);
        open.failed(failure);
    }

    /// Says in the program's dialect that the answer is not complete.
    fn fail(&mut self, failure: &Failure, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.over, true) {
            self.encoder.event(&Event::Failed(failure.clone()), out);
        }
    }
}

/// Begins a stream: nothing is passed on before something has come that is content, so that another can be asked until then.
pub(crate) async fn stream(
    spoken: Spoken,
    request: &Request,
    voice: Voice,
    strip: bool,
    open: &mut Open,
) -> Result<Ready, Failure> {
    let cutter = if voice.same { voice.ours.cutter() } else { None };
    let way = Way {
        decoder: voice.theirs.decoder(),
        encoder: voice.ours.encoder(request),
        same: cutter.is_some(),
        strip,
        begun: false,
        over: false,
    };
    let Spoken { answer: Answer { head: _, body }, scrub } = spoken;
    let mut stream = Stream { body, scrub, cutter, way };
    let mut first = Vec::new();
    while !stream.way.begun {
        let piece = stream.body.next().await;
        let silent = || Failure::new(Kind::Cut, "the upstream's stream ended before it said anything");
        let bytes = piece.ok_or_else(silent)?.map_err(failure_of)?;
        if first.len() > FIRST_MAX {
            let what = format!("more than {FIRST_MAX} bytes came of the stream and nothing of an answer");
            return Err(Failure::new(Kind::Malformed, what));
        }
        match stream.take(&bytes, open, &mut first) {
            Ok(()) => {}
            // What fails before it has said anything may be asked of another.
            Err(Stop::Failed(failure)) if !stream.way.begun => return Err(failure),
            Err(stop) => {
                stream.way.stop(stop, open, &mut first);
                return Ok(Ready::Whole(voice.ours.stream_type(), first));
            }
        }
    }
    Ok(Ready::Stream(voice.ours.stream_type(), Box::new(stream), first))
}

async fn all(mut spoken: Spoken) -> Result<Vec<u8>, Failure> {
    let body = spoken.answer.body.whole(BODY_MAX).await.map_err(failure_of)?;
    Ok(spoken.scrub.whole(&body))
}

/// An answer in one piece.
pub(crate) async fn whole(
    spoken: Spoken,
    request: &Request,
    voice: Voice,
    open: &mut Open,
) -> Result<Ready, Failure> {
    let body = all(spoken).await?;
    let events = voice.theirs.read_answer(&body)?;
    for event in &events {
        // It is there whole, and was cut by the upstream where it was told to.
        if let Err(over) = open.event(event) {
            open.failed(over);
        }
    }
    if request.stream {
        let mut out = Vec::new();
        let mut encoder = voice.ours.encoder(request);
        events.iter().for_each(|event| encoder.event(event, &mut out));
        if let Some(failure) = encoder.unsaid() {
            open.unsaid(failure.clone());
        }
        return Ok(Ready::Whole(voice.ours.stream_type(), out));
    }
    Ok(Ready::Whole(JSON, if voice.same { body } else { voice.ours.write_answer(request, &events)? }))
}

/// Vectors.
pub(crate) async fn vectors(
    spoken: Spoken,
    request: &embeddings::Request,
    voice: Voice,
    open: &mut Open,
) -> Result<Ready, Failure> {
    let body = all(spoken).await?;
    let answer = embeddings::read_answer(voice.theirs, &body)?;
    let usage = answer.usage;
    let done = Event::Finished { reason: octant_llm::StopReason::End, sequence: None };
    for event in [Event::Usage(usage), done] {
        open.event(&event)?;
    }
    Ok(Ready::Whole(
        JSON,
        if voice.same { body } else { embeddings::write_answer(voice.ours, request, &answer)? },
    ))
}
