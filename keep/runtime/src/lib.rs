//! The program inside a Keep: loads the application and runs it.
#![forbid(unsafe_code)]
