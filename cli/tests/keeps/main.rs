//! Keeps, end to end: tests drive the built command.

mod attest;
mod common;
mod documents;
mod programs;
mod run;
