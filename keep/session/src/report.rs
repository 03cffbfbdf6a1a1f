// SPDX-License-Identifier: Apache-2.0

//! Reports by the secure processor: where they come from, and for whom they are. The host carries them; the tenant judges
//! them.

/// The ground under a session: the secure processor, and memory.
pub trait Attester: Send + Sync {
    /// A report by the secure processor over `data`; `None` if there is no such processor.
    ///
    /// # Errors
    /// [`ReportError`].
    fn report(&self, data: &[u8; 64]) -> Result<Option<Vec<u8>>, ReportError>;

    /// Free memory of the Keep, in bytes.
    fn free_memory(&self) -> u64;
}

/// The reason why there is no report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportError {
    /// The host let no message through; it may later.
    Busy,
    /// No answer that could be trusted.
    Failed,
}

/// The secure processor's answer.
pub type Report = Result<Option<Vec<u8>>, ReportError>;

/// The receiver of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// The connection of this number.
    Link(u64),
    /// The receipt.
    Receipt,
    /// The receipt of native code that is about to run.
    Last,
}

/// A request for a report. A separate thread asks the secure processor, which may take seconds and delays nobody else.
pub struct ReportJob {
    /// Its receiver.
    pub asker: Asker,
    /// REPORT_DATA.
    pub data: [u8; 64],
}
