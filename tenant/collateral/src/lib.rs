// SPDX-License-Identifier: Apache-2.0

//! The local store of the vendors' statements about hardware: AMD's certificates and revocation lists, Intel's
//! collateral. It runs on the tenant's side and does the input and output that the verifier does not.
//!
//! Files are checked up to the vendors' pinned roots before they are kept. The store is still not trusted: the verifier
//! checks every signature again, so an attacker who writes to the store can only make a verification fail, and fetching
//! replaces files that are not the vendor's.
#![forbid(unsafe_code)]

mod fetch;
pub mod file;
mod http;
mod store;

pub use fetch::{FetchError, Fetcher, Unnamed};
pub use http::{Http, HttpError, Response, Web};
pub use store::{Imported, Refusal, Store, StoreError};
