//! Keeps, end to end: tests drive the built command.
#![allow(clippy::print_stderr, reason = "a test says what it leaves out")]

mod attest;
mod common;
mod documents;
mod jail;
mod languages;
mod output;
mod programs;
mod random;
mod run;
