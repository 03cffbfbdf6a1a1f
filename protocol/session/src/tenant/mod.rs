// SPDX-License-Identifier: Apache-2.0

//! The tenant's end. The order attest, judge, release is a matter of types: a [`Session`] of [`Unjudged`] can send one
//! ATTEST and nothing else, whatever its peer sends, and only [`Session::judge`] makes a [`Session`] of [`Released`] of it.
//!
//! A session that has not been judged releases nothing:
//!
//! ```compile_fail,E0599
//! use enarx_session::{Moment, deployment::Deployment, tenant::{Session, Unjudged}};
//! fn early(session: &mut Session<Unjudged>, deployment: &Deployment) {
//!     let _ = session.release(deployment, Moment(0));
//! }
//! ```
//!
//! Nor can it attach to a running application, send standard input, or deliver a part:
//!
//! ```compile_fail,E0599
//! use enarx_session::{Moment, tenant::{Session, Streams, Unjudged}};
//! fn early(session: &mut Session<Unjudged>) {
//!     let _ = session.attach(Streams::default(), Moment(0));
//! }
//! ```
//!
//! ```compile_fail,E0599
//! use enarx_session::{Moment, tenant::{Session, Unjudged}};
//! fn early(session: &mut Session<Unjudged>) {
//!     let _ = session.stdin(b"secret", Moment(0));
//! }
//! ```
//!
//! ```compile_fail,E0599
//! use enarx_session::{Moment, tenant::{Session, Unjudged}};
//! fn early(session: &mut Session<Unjudged>) {
//!     let _ = session.supply(b"secret", Moment(0));
//! }
//! ```
//!
//! No session is released but by the verdict:
//!
//! ```compile_fail,E0451
//! use enarx_session::tenant::{Released, Session, Unjudged};
//! fn forged(session: Session<Unjudged>, stage: Released) -> Session<Released> {
//!     Session { decoder: session.decoder, core: session.core, stage }
//! }
//! ```
//!
//! A refused session is gone:
//!
//! ```compile_fail,E0382
//! use enarx_session::{Moment, tenant::{Session, Unjudged}, verdict::Verifier};
//! fn again(session: Session<Unjudged>, verifier: &impl Verifier) {
//!     let first = session.judge(verifier, Moment(0), 1);
//!     let second = session.judge(verifier, Moment(0), 1);
//! }
//! ```
//!
//! The right order, as far as possible without a Keep:
//!
//! ```
//! use enarx_session::{Moment, Refusal, deployment::Deployment, tenant::{Session, Unjudged}, verdict::Verifier};
//! fn release(
//!     session: Session<Unjudged>,
//!     verifier: &impl Verifier,
//!     deployment: &Deployment,
//! ) -> Result<(), Refusal> {
//!     let mut session = session.judge(verifier, Moment(0), 3_600_000)?;
//!     session.release(deployment, Moment(0))
//! }
//! ```

mod delivery;
mod released;
mod session;
mod streams;
mod unjudged;

pub use released::{Event, Outcome, Released};
pub use session::{Channel, Identity, Session, Wanted};
pub use streams::Streams;
pub use unjudged::{InsecureUnattested, Unjudged};
