//! Watches a stream that passes through as it is.

use crate::{Decoder, Dialect, Event, Failure, StopReason, Usage};

/// What a stream that passes says of itself: what was used, and whether and how it ended.
#[derive(Debug)]
pub struct Meter {
    decoder: Decoder,
    usage: Usage,
    reason: Option<StopReason>,
    failure: Option<Failure>,
    output_bytes: u64,
}

impl Meter {
    /// Of a stream in this dialect.
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        Self {
            decoder: dialect.decoder(),
            usage: Usage::default(),
            reason: None,
            failure: None,
            output_bytes: 0,
        }
    }

    /// More bytes have passed.
    pub fn push(&mut self, bytes: &[u8]) {
        let events = self.decoder.push(bytes);
        self.see(&events);
    }

    /// Nothing more comes; whether the stream was complete, or how it failed.
    ///
    /// # Errors
    /// What the stream said went wrong; [`crate::Kind::Cut`] without a terminal event.
    pub fn end(&mut self) -> Result<StopReason, Failure> {
        let events = self.decoder.end();
        self.see(&events);
        match (&self.failure, self.reason) {
            (None, Some(reason)) => Ok(reason),
            (Some(failure), _) => Err(failure.clone()),
            (None, None) => Err(crate::answer::cut()),
        }
    }

    /// What was used, as far as the stream has said it.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Bytes of the answer's words so far: an upper bound of its tokens until the provider says how many they are.
    #[must_use]
    pub fn output_bytes(&self) -> u64 {
        self.output_bytes
    }

    /// Whether the terminal event has passed.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.decoder.ended()
    }

    fn see(&mut self, events: &[Event]) {
        for event in events {
            match event {
                Event::Usage(usage) => self.usage = *usage,
                Event::Finished { reason, .. } => self.reason = Some(*reason),
                Event::Failed(failure) => self.failure = Some(failure.clone()),
                Event::Delta { delta, .. } => self.output_bytes += delta.text().len() as u64,
                Event::Started { .. } | Event::BlockStarted { .. } | Event::BlockStopped { .. } => {}
            }
        }
    }
}
