//! Tickets: an actuator's proof that an intent is durable.
#![forbid(unsafe_code)]
