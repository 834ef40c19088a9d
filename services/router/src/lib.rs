//! temporary
#![forbid(unsafe_code)]
#![allow(dead_code)]
mod agents;
mod book;
mod core;
mod purse;
mod scrub;
mod secrets;
mod splice;
mod upstream;
