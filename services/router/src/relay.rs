//! From an upstream's answer to a program's: as it is where both speak the same, translated where they do not.

use crate::ask::{Spoken, failure_of};
use crate::http::{self, BODY_MAX, JSON, Reply};
use crate::open::Open;
use crate::tail::Tail;
use hyper::body::Bytes;
use hyper::header::{self, HeaderValue};
use octant_llm::{Decoder, Dialect, Encoder, Event, Failure, Kind, Request, embeddings};
use tokio::sync::mpsc;

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
    Stream(Box<Stream>, Vec<u8>),
}

/// A stream on its way.
pub(crate) struct Stream {
    spoken: Spoken,
    voice: Voice,
    decoder: Decoder,
    encoder: Encoder,
    /// Takes away what was asked for on the router's own account.
    tail: Option<Tail>,
    /// Whether anything has come that cannot be taken back.
    begun: bool,
}

/// Gives a program its answer, from here on.
pub(crate) fn reply(ready: Ready, mut open: Open, asked: String, own: String) -> Reply {
    match ready {
        Ready::Whole(kind, body) => {
            open.said(&body);
            http::whole(200, kind, body)
        }
        Ready::Stream(stream, first) => {
            let (sender, body) = http::pieces();
            let kind = stream.voice.ours.stream_type();
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
                stream.fail(&failure, &mut out);
                open.failed(Failure::new(Kind::Cancelled, failure.message));
                open.said(&out);
                // Who does not read it sees the end all the same.
                let _ = to.try_send(Bytes::from(out));
                return;
            }
            piece = stream.spoken.answer.body.next() => piece,
        };
        let done = match piece {
            Some(Ok(bytes)) => stream.take(&bytes, &mut open, &mut out).is_err(),
            Some(Err(error)) => {
                let failure = failure_of(error);
                stream.fail(&failure, &mut out);
                open.failed(failure);
                true
            }
            None => {
                stream.end(&mut open, &mut out);
                true
            }
        };
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
    ///
    /// # Errors
    /// It may not go on; `out` says so.
    fn take(&mut self, bytes: &[u8], open: &mut Open, out: &mut Vec<u8>) -> Result<(), ()> {
        let bytes = self.spoken.scrub.push(bytes);
        let events = self.decoder.push(&bytes);
        self.pass(&bytes, &events, open, out)
    }

    fn pass(&mut self, bytes: &[u8], events: &[Event], open: &mut Open, out: &mut Vec<u8>) -> Result<(), ()> {
        if self.voice.same {
            match &mut self.tail {
                Some(tail) => tail.push(bytes, out),
                None => out.extend_from_slice(bytes),
            }
        }
        for event in events {
            self.begun |= !matches!(event, Event::Started { .. } | Event::Usage(_));
            if let Err(failure) = open.event(event) {
                self.fail(&failure, out);
                open.failed(failure);
                return Err(());
            }
            if !self.voice.same {
                self.encoder.event(event, out);
            }
        }
        Ok(())
    }

    /// It ended: cleanly only with its terminal event.
    fn end(&mut self, open: &mut Open, out: &mut Vec<u8>) {
        let rest = self.spoken.scrub.end();
        let mut events = self.decoder.push(&rest);
        let cut = !self.decoder.ended();
        events.extend(self.decoder.end());
        // It has said so already if it could, or may go no further all the same.
        let _ = self.pass(&rest, &events, open, out);
        if let Some(tail) = &mut self.tail {
            tail.end(out);
        }
        if let (true, true, Some(Event::Failed(failure))) = (cut, self.voice.same, events.last()) {
            self.fail(failure, out);
        }
    }

    /// Says in the program's dialect that the answer is not complete.
    fn fail(&mut self, failure: &Failure, out: &mut Vec<u8>) {
        self.encoder.event(&Event::Failed(failure.clone()), out);
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
    let mut stream = Stream {
        spoken,
        voice,
        decoder: voice.theirs.decoder(),
        encoder: voice.ours.encoder(request),
        tail: strip.then(Tail::default),
        begun: false,
    };
    let mut first = Vec::new();
    while !stream.begun {
        match stream.spoken.answer.body.next().await {
            Some(Ok(bytes)) => {
                let bytes = stream.spoken.scrub.push(&bytes);
                let events = stream.decoder.push(&bytes);
                // What fails before it has said anything may be asked of another.
                if let Some(Event::Failed(failure)) =
                    events.iter().find(|event| !matches!(event, Event::Started { .. } | Event::Usage(_)))
                {
                    return Err(failure.clone());
                }
                if stream.pass(&bytes, &events, open, &mut first).is_err() {
                    break;
                }
            }
            Some(Err(error)) => return Err(failure_of(error)),
            None => {
                return Err(Failure::new(Kind::Cut, "the upstream's stream ended before it said anything"));
            }
        }
    }
    Ok(Ready::Stream(Box::new(stream), first))
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
