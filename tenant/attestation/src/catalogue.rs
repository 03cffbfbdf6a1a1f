// SPDX-License-Identifier: Apache-2.0

//! The names of all checks.

/// Every check by its stable name, with its meaning. A verdict has no other names.
pub static CATALOGUE: &[(&str, &str)] = &[
    (
        "policy.usable",
        "the policy is consistent, and asks for nothing that could not be compared",
    ),
    (
        "evidence.format",
        "the evidence is a well-formed report or quote",
    ),
    (
        "evidence.accepted",
        "the policy accepts this kind of hardware",
    ),
    (
        "report.version",
        "the report's version is known and recent enough",
    ),
    (
        "report.reserved",
        "no bit is set that this program does not know",
    ),
    (
        "report.signature-algorithm",
        "the report is signed with ECDSA P-384 and SHA-384",
    ),
    (
        "report.signing-key",
        "the report is signed, by a key that the policy accepts",
    ),
    (
        "report.product",
        "the CPU is of a known generation that the policy accepts",
    ),
    ("report.signature", "the endorsement key signed the report"),
    (
        "report.vmpl",
        "a privilege level that the policy accepts asked for the report",
    ),
    (
        "quote.pck-chain",
        "Intel's root issued the platform's certificate (PCK)",
    ),
    (
        "quote.qe-signature",
        "the platform's key signed the quoting enclave's report",
    ),
    (
        "quote.qe-binding",
        "the quoting enclave vouches for the attestation key",
    ),
    ("quote.signature", "the attestation key signed the quote"),
    (
        "quote.tcb-level",
        "the platform reaches a TCB level of the collateral that is not revoked",
    ),
    (
        "quote.tcb-status",
        "the status of that TCB level is one that the policy accepts",
    ),
    (
        "quote.advisories",
        "no advisory that the policy refuses applies",
    ),
    ("collateral.present", "there is collateral"),
    ("collateral.format", "the collateral is well-formed"),
    (
        "collateral.verification",
        "the collateral is Intel's, in force, and fits the quote",
    ),
    (
        "collateral.evaluation-number",
        "the collateral's tcbEvaluationDataNumber is high enough",
    ),
    ("tdx.debug", "the host may not debug or profile the TD"),
    (
        "tdx.attributes",
        "the TD cannot migrate and has no reserved attribute",
    ),
    (
        "tdx.sept-ve-disable",
        "the host cannot inject #VE by unmapping a page",
    ),
    ("tdx.service-td", "no service TD is bound to the TD"),
    ("tdx.mrtd", "MRTD is one that the policy accepts"),
    ("tdx.rtmr0", "RTMR0 is one that the policy accepts"),
    ("tdx.rtmr1", "RTMR1 is one that the policy accepts"),
    ("tdx.rtmr2", "RTMR2 is one that the policy accepts"),
    ("tdx.rtmr3", "RTMR3 is one that the policy accepts"),
    ("tdx.mrseam", "MRSEAM is one that the policy accepts"),
    (
        "tdx.mrconfigid",
        "MRCONFIGID is one that the policy accepts",
    ),
    ("tdx.mrowner", "MROWNER is one that the policy accepts"),
    (
        "tdx.mrownerconfig",
        "MROWNERCONFIG is one that the policy accepts",
    ),
    ("sgx.debug", "the host may not debug the enclave"),
    ("sgx.mrenclave", "MRENCLAVE is one that the policy accepts"),
    ("sgx.mrsigner", "MRSIGNER is one that the policy accepts"),
    ("sgx.isv-prod-id", "ISVPRODID is the expected one"),
    ("sgx.isv-svn", "ISVSVN is high enough"),
    (
        "chain.certificates",
        "the certificates are present and well-formed",
    ),
    (
        "chain.root",
        "the root's public key is AMD's for the product line",
    ),
    (
        "chain.names",
        "each certificate is issued by the next, all of one product line",
    ),
    ("chain.ark-signature", "the root signed itself"),
    ("chain.ask-signature", "the root signed the intermediate"),
    (
        "chain.vek-signature",
        "the intermediate signed the endorsement key",
    ),
    ("validity.ark", "the root is valid at the time"),
    ("validity.ask", "the intermediate is valid at the time"),
    (
        "validity.vek",
        "the endorsement key's certificate is valid at the time",
    ),
    (
        "crl.present",
        "there is a well-formed, signed and fresh revocation list of the root; among several of an issuer, the newest counts",
    ),
    (
        "crl.signature",
        "every revocation list is signed by an issuer of the chain",
    ),
    (
        "crl.fresh",
        "every revocation list is in force at the time, or was issued between the past time that is judged and today",
    ),
    (
        "crl.complete",
        "every revocation list covers all certificates, and has no unknown critical extension",
    ),
    (
        "crl.age",
        "the newest revocation list of each issuer is not older than the policy allows, and there is one of the root",
    ),
    ("crl.ask", "the intermediate is not revoked"),
    (
        "crl.vek",
        "the endorsement key is not revoked, by a list of the intermediate where there is one (AMD publishes none)",
    ),
    (
        "agreement.key-kind",
        "certificate and report name the same kind of key",
    ),
    (
        "certificate.csp",
        "the cloud provider that the endorsement key's certificate names is one that the policy accepts",
    ),
    (
        "agreement.product",
        "report, certificate and issuer name the same product line",
    ),
    (
        "agreement.struct-version",
        "the certificate's structure is that of the product",
    ),
    (
        "agreement.tcb-fmc",
        "the certificate's FMC number is the reported one",
    ),
    (
        "agreement.tcb-bootloader",
        "the certificate's boot loader number is the reported one",
    ),
    (
        "agreement.tcb-tee",
        "the certificate's TEE number is the reported one",
    ),
    (
        "agreement.tcb-snp",
        "the certificate's SNP number is the reported one",
    ),
    (
        "agreement.tcb-microcode",
        "the certificate's microcode number is the reported one",
    ),
    (
        "agreement.chip-id",
        "the certificate is of the chip that the report names",
    ),
    (
        "tcb.order",
        "reported ≤ committed ≤ current, component by component",
    ),
    ("tcb.reported", "the reported TCB is at least the policy's"),
    (
        "tcb.committed",
        "the committed TCB is at least the policy's",
    ),
    ("tcb.launch", "the TCB at launch is at least the policy's"),
    ("tcb.current", "the current TCB is at least the policy's"),
    (
        "firmware.version",
        "the firmware, current and committed, is at least the policy's",
    ),
    (
        "mitigations.launch",
        "the mitigations that the policy requires were verified at launch",
    ),
    (
        "mitigations.current",
        "the mitigations that the policy requires are verified now",
    ),
    ("attack.entrysign", "the mitigation of EntrySign shows"),
    ("attack.badram", "the mitigation of BadRAM shows"),
    ("attack.rmpocalypse", "the mitigation of RMPocalypse shows"),
    ("attack.stackwarp", "the mitigation of StackWarp shows"),
    (
        "attack.iommu-write-buffer",
        "the mitigation of the IOMMU write buffer flaw shows",
    ),
    (
        "attack.ciphertext-side-channel",
        "the mitigation of the ciphertext side channel shows",
    ),
    ("attack.heracles", "the mitigation of Heracles shows"),
    (
        "attack.badfuse",
        "the product is not one whose key seed software can read",
    ),
    ("guest-policy.debug", "the host may not debug the guest"),
    (
        "guest-policy.migration-agent",
        "the guest has no migration agent",
    ),
    (
        "guest-policy.smt",
        "the guest policy's rule for multithreading",
    ),
    (
        "guest-policy.single-socket",
        "the guest policy's rule for sockets",
    ),
    ("guest-policy.cxl", "the guest policy's rule for CXL"),
    (
        "guest-policy.aes-256-xts",
        "the guest policy's rule for AES-256-XTS",
    ),
    (
        "guest-policy.rapl-disabled",
        "the guest policy's rule for RAPL",
    ),
    (
        "guest-policy.ciphertext-hiding",
        "the guest policy's rule for ciphertext hiding",
    ),
    (
        "guest-policy.page-swap-disabled",
        "the guest policy's rule for page moves",
    ),
    (
        "guest-policy.abi",
        "the guest policy asks for the ABI version that the policy wants",
    ),
    (
        "guest-policy.release",
        "the guest policy is what the recognized release asks for",
    ),
    ("platform.smt", "the platform's rule for multithreading"),
    (
        "platform.tsme",
        "the platform's rule for transparent memory encryption",
    ),
    ("platform.ecc", "the platform's rule for error correction"),
    ("platform.rapl-disabled", "the platform's rule for RAPL"),
    (
        "platform.ciphertext-hiding",
        "the platform's rule for ciphertext hiding",
    ),
    (
        "platform.alias-check",
        "the platform's rule for the memory alias check",
    ),
    (
        "platform.iommu-write-safe",
        "the platform's rule for writes of the IOMMU",
    ),
    (
        "platform.tio",
        "the platform's rule for trusted input and output",
    ),
    (
        "guest.measurement",
        "the launch digest is one that the policy accepts, or of a release that it names",
    ),
    ("guest.report-data", "the report data is the expected one"),
    ("guest.host-data", "the host data is the expected one"),
    ("guest.id-key", "the ID key is one that the policy accepts"),
    (
        "guest.author-key",
        "the author key is one that the policy accepts",
    ),
    (
        "guest.family-id",
        "the family id is one that the policy accepts",
    ),
    (
        "guest.image-id",
        "the image id is one that the policy accepts",
    ),
    (
        "guest.svn",
        "the guest's security version number is high enough",
    ),
    ("chip.allowed", "the chip is one that the policy accepts"),
    ("chip.denied", "the chip is not one that the policy refuses"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_attack_has_one() {
        for (i, (name, meaning)) in CATALOGUE.iter().enumerate() {
            assert!(
                CATALOGUE[i + 1..].iter().all(|(other, _)| other != name),
                "{name}"
            );
            assert!(!meaning.is_empty());
        }
        for attack in &crate::attacks::ATTACKS {
            let name = format!("attack.{}", attack.name);
            assert!(CATALOGUE.iter().any(|(known, _)| *known == name), "{name}");
        }
    }
}
