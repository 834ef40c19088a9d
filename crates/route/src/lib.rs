//! Which upstream a request goes to, in which order they are tried, and what it may cost: pure.
//!
//! Owns: what is known of providers and models ([`Catalogue`]), the operator's choice of them, the order of candidates for a
//! request ([`choose`]), how each upstream does ([`Health`]), the one retry loop ([`Plan`]), budgets in windows ([`Books`])
//! and the answers that may be given again ([`Cache`]).
//! Promises: whoever is left out is left out for a reason that can be read; what was granted is never more than a cap; the
//! same state, seed and time give the same choice.
//! Never: opens a socket, reads a clock, makes randomness, holds a key. Times come in as milliseconds, chance as a seed.
#![forbid(unsafe_code)]

mod ability;
mod breaker;
mod bucket;
mod budget;
mod cache;
mod catalogue;
mod choose;
mod complexity;
mod config;
mod data;
mod error;
mod headers;
mod health;
mod measure;
mod price;
mod provider;
mod ration;
mod reason;
mod retry;
mod seed;
#[cfg(test)]
mod tests;

pub use ability::{Abilities, Ability};
pub use budget::{Amount, Books, Exceeded, Limits, Reservation, Span, Used};
pub use cache::{Cache, CacheKey, CacheLimits, Uncacheable, cache_key, cacheable, keepable};
pub use catalogue::{Catalogue, Deployment, Group, Pace, Step};
pub use choose::{Candidate, Choice, DataClass, LeftOut, Strategy, Wish, choose};
pub use complexity::{Class, Complexity, class};
pub use config::Listen;
pub use data::{Known, Long, Model, check_data};
pub use error::{Fault, Faults};
pub use health::{Blame, Call, Health, Load, Standing, Why, blame};
pub use price::{Cap, Rates, price};
pub use provider::{Auth, OutputField, Provider};
pub use ration::{Over, Ration};
pub use reason::Reason;
pub use retry::{Next, Plan, Retries};
