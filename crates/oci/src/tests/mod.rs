//! Images made by the tests themselves: good ones, hostile ones, random ones.

mod corpus;
mod hostile;
mod maker;
mod model;
mod saved;
mod whole;
