//! The AMD SEV-SNP structures: report, GHCB, guest messages, secrets, CPUID and VMSA pages.
#![forbid(unsafe_code)]
