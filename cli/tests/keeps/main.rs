//! Keeps, end to end: tests drive the built command.

mod attest;
mod common;
mod documents;
mod languages;
mod programs;
mod random;
mod run;
