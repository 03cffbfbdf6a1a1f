// SPDX-License-Identifier: Apache-2.0

//! Prints the fields of evidence, certificates and VMSA pages. Nothing is checked here: a field shows what the bytes
//! say, not what is true.

use crate::evidence::{Evidence, EvidenceError};
use crate::hex;
use crate::intel::Quote;
use crate::pem;
use crate::printable::printable;
use crate::x509::{Cert, Crl, common_name};
use dcap_qvl::quote::{AuthData, EnclaveReport, Report as QuoteReport, TDReport10};
use enarx_snp::bits::{Bit, GuestPolicy, PlatformInfo};
use enarx_snp::launch::PAGE_LEN;
use enarx_snp::report::{FirmwareVersion, Report};
use enarx_snp::tcb::{Component, Layout, TcbVersion};
use enarx_snp::vmsa::{Segment, Vmsa, sev_features};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use zerocopy::FromBytes;

/// Bytes, read field by field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Description {
    /// The kind of the bytes.
    pub kind: String,
    /// The fields, in the order of the structure.
    pub fields: Vec<Field>,
}

/// One field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Field {
    /// Name.
    pub name: String,
    /// Value; bytes as hexadecimal digits.
    pub value: String,
    /// The meaning of the value, where there is something to say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub meaning: String,
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} (not verified; see `enarx verify`)", self.kind)?;
        let width = self
            .fields
            .iter()
            .map(|field| field.name.len())
            .max()
            .unwrap_or(0);
        for Field {
            name,
            value,
            meaning,
        } in &self.fields
        {
            if meaning.is_empty() {
                writeln!(f, "  {name:width$}  {value}")?;
            } else {
                writeln!(f, "  {name:width$}  {value}  ({meaning})")?;
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Fields(Vec<Field>);

impl Fields {
    fn add(&mut self, name: impl Into<String>, value: impl fmt::Display) {
        self.explain(name, value, "");
    }

    fn explain(
        &mut self,
        name: impl Into<String>,
        value: impl fmt::Display,
        meaning: impl Into<String>,
    ) {
        self.0.push(Field {
            name: printable(&name.into()),
            value: printable(&value.to_string()),
            meaning: printable(&meaning.into()),
        });
    }

    fn bytes(&mut self, name: impl Into<String>, bytes: &[u8]) {
        self.add(name, hex::encode(bytes));
    }

    fn bits(&mut self, name: &str, value: u64, known: &[Bit], unknown: u64) {
        let set = known
            .iter()
            .filter(|b| value & b.mask() != 0)
            .map(|b| b.name);
        let mut meaning: Vec<_> = set.map(str::to_owned).collect();
        if unknown != 0 {
            meaning.push(format!("unknown bits {unknown:#x}"));
        }
        self.explain(name, format!("{value:#x}"), meaning.join(", "));
    }
}

/// Reads bytes as a report, quote, certificate, revocation list or VMSA page.
///
/// # Errors
/// When they are nothing of that; the error is that of the evidence.
pub fn describe(bytes: &[u8]) -> Result<Description, EvidenceError> {
    let mut fields = Fields::default();
    let kind = match Evidence::parse(bytes) {
        Ok(Evidence::Snp(report)) => {
            snp(report, &mut fields);
            "SEV-SNP attestation report".to_owned()
        }
        Ok(Evidence::Quote(quote)) => {
            intel(&quote, &mut fields);
            format!("{} quote", quote.tee())
        }
        Err(error) => {
            if let Ok(certificate) = Cert::parse(bytes) {
                describe_certificate(&certificate, &mut fields);
                "certificate".to_owned()
            } else if let Ok(list) = Crl::parse(bytes) {
                describe_list(&list, &mut fields);
                "certificate revocation list".to_owned()
            } else if let Ok(page) = Vmsa::ref_from_bytes(bytes) {
                const { assert!(size_of::<Vmsa>() == PAGE_LEN) };
                vmsa(page, &mut fields);
                "VMSA page".to_owned()
            } else {
                return Err(error);
            }
        }
    };
    Ok(Description {
        kind,
        fields: fields.0,
    })
}

fn snp(report: &Report, fields: &mut Fields) {
    let generation = report
        .cpu()
        .and_then(enarx_snp::product::CpuSignature::generation);
    let policy = report.guest_policy();
    fields.add("version", report.version.get());
    fields.add("guest svn", report.guest_svn.get());
    fields.bits(
        "guest policy",
        policy.0,
        &GuestPolicy::BITS,
        policy.unknown(),
    );
    fields.add(
        "guest policy ABI",
        format!("{}.{}", policy.abi_major(), policy.abi_minor()),
    );
    fields.bytes("family id", &report.family_id);
    fields.bytes("image id", &report.image_id);
    fields.add("VMPL", report.vmpl.get());
    fields.add("signature algorithm", report.signature_algo.get());
    let platform = report.platform();
    fields.bits(
        "platform information",
        platform.0,
        &PlatformInfo::BITS,
        platform.unknown(),
    );
    fields.explain(
        "key information",
        format!("{:#x}", report.key_info.get()),
        format!(
            "signed by {}",
            crate::snp::product::signing_key_name(report.keys().signing_key())
        ),
    );
    fields.bytes("report data", &report.report_data);
    fields.bytes("measurement", &report.measurement);
    fields.bytes("host data", &report.host_data);
    fields.bytes("ID key digest", &report.id_key_digest);
    fields.bytes("author key digest", &report.author_key_digest);
    fields.bytes("report id", &report.report_id);
    fields.bytes("report id of migration agent", &report.report_id_ma);
    if let Some(cpu) = report.cpu() {
        fields.explain(
            "CPU family, model, stepping",
            format!("{:#x}, {:#x}, {:#x}", cpu.family, cpu.model, cpu.stepping),
            generation.map_or("unknown", |g| g.name),
        );
    }
    fields.bytes("chip id", &report.chip_id);
    for (name, version) in [
        ("current TCB", report.current_tcb),
        ("reported TCB", report.reported_tcb),
        ("committed TCB", report.committed_tcb),
        ("launch TCB", report.launch_tcb),
    ] {
        let meaning = match generation {
            Some(generation) => tcb(version, generation.tcb),
            // The numbers are at a different place on each generation.
            None => "the components depend on the CPU, which this report does not name".to_owned(),
        };
        fields.explain(name, hex::encode(&version.0), meaning);
    }
    let firmware = |v: &FirmwareVersion| format!("{}.{}.{}", v.major, v.minor, v.build);
    fields.add("current firmware", firmware(&report.current_version));
    fields.add("committed firmware", firmware(&report.committed_version));
    if let Some((launch, current)) = report.mitigations() {
        fields.add("launch mitigations", format!("{launch:#x}"));
        fields.add("current mitigations", format!("{current:#x}"));
    }
    if let Some((r, s)) = report.signature.scalars() {
        fields.bytes("signature R", &r);
        fields.bytes("signature S", &s);
    } else {
        fields.explain("signature", "malformed", "R or S has more than 48 bytes");
    }
}

fn tcb(version: TcbVersion, layout: Layout) -> String {
    let parts = Component::ALL.iter().filter_map(|c| {
        version
            .get(layout, *c)
            .map(|svn| format!("{} {svn:#x}", c.name()))
    });
    parts.collect::<Vec<_>>().join(", ")
}

fn intel(quote: &Quote<'_>, fields: &mut Fields) {
    let parts = quote.parts();
    fields.add("version", parts.header.version);
    fields.add("attestation key type", parts.header.attestation_key_type);
    fields.add("TEE type", format!("{:#x}", parts.header.tee_type));
    fields.bytes("QE vendor", &parts.header.qe_vendor_id);
    fields.bytes("user data", &parts.header.user_data);
    match &parts.report {
        QuoteReport::SgxEnclave(report) => enclave(report, fields),
        QuoteReport::TD10(report) => td(report, fields),
        QuoteReport::TD15(report) => {
            td(&report.base, fields);
            fields.bytes("TEE TCB SVN 2", &report.tee_tcb_svn2);
            fields.bytes("MRSERVICETD", &report.mr_service_td);
        }
        QuoteReport::TD15Ex(report) => {
            td(&report.base.base, fields);
            fields.bytes("TEE TCB SVN 2", &report.base.tee_tcb_svn2);
            fields.bytes("MRSERVICETD", &report.base.mr_service_td);
            fields.bytes("TD id", &report.td_id);
        }
    }
    let auth = match &parts.auth_data {
        AuthData::V3(auth) => auth.clone(),
        AuthData::V4(auth) => auth.clone().into_v3(),
    };
    fields.bytes("signature", &auth.ecdsa_signature);
    fields.bytes("attestation key", &auth.ecdsa_attestation_key);
    fields.bytes("QE report", &auth.qe_report);
    fields.bytes("QE authentication data", &auth.qe_auth_data.data);
    fields.add("certification data type", auth.certification_data.cert_type);
    // A chain that cannot be read is left out here: the verifier judges it.
    let chain = pem::documents(&auth.certification_data.body.data).unwrap_or_default();
    for document in chain {
        if let Ok(certificate) = Cert::from_der(&document.bytes) {
            describe_certificate(&certificate, fields);
        }
    }
}

fn td(report: &TDReport10, fields: &mut Fields) {
    fields.bytes("TEE TCB SVN", &report.tee_tcb_svn);
    fields.bytes("MRSEAM", &report.mr_seam);
    fields.bytes("MRSIGNERSEAM", &report.mr_signer_seam);
    fields.bytes("SEAM attributes", &report.seam_attributes);
    fields.bytes("TD attributes", &report.td_attributes);
    fields.bytes("XFAM", &report.xfam);
    fields.bytes("MRTD", &report.mr_td);
    fields.bytes("MRCONFIGID", &report.mr_config_id);
    fields.bytes("MROWNER", &report.mr_owner);
    fields.bytes("MROWNERCONFIG", &report.mr_owner_config);
    fields.bytes("RTMR0", &report.rt_mr0);
    fields.bytes("RTMR1", &report.rt_mr1);
    fields.bytes("RTMR2", &report.rt_mr2);
    fields.bytes("RTMR3", &report.rt_mr3);
    fields.bytes("report data", &report.report_data);
}

fn enclave(report: &EnclaveReport, fields: &mut Fields) {
    fields.bytes("CPU SVN", &report.cpu_svn);
    fields.bytes("attributes", &report.attributes);
    fields.bytes("MRENCLAVE", &report.mr_enclave);
    fields.bytes("MRSIGNER", &report.mr_signer);
    fields.add("ISVPRODID", report.isv_prod_id);
    fields.add("ISVSVN", report.isv_svn);
    fields.bytes("report data", &report.report_data);
}

fn describe_certificate(certificate: &Cert, fields: &mut Fields) {
    let (from, to) = certificate.validity();
    fields.add("subject", certificate.subject());
    fields.add("issuer", certificate.issuer());
    fields.bytes("serial", certificate.serial());
    fields.add("valid", format!("{from} to {to}"));
    fields.add("authority", certificate.is_authority());
    fields.bytes("SHA-256 of the public key", &certificate.key_digest());
    let extensions = certificate.inner.tbs_certificate().extensions();
    for extension in extensions.into_iter().flatten() {
        let name = crate::snp::extension_name(extension.extn_id);
        let value = hex::encode(extension.extn_value.as_bytes());
        fields.explain(format!("extension {}", extension.extn_id), value, name);
    }
}

fn describe_list(list: &Crl, fields: &mut Fields) {
    let (from, to) = list.validity();
    fields.add("issuer", common_name(&list.inner.tbs_cert_list.issuer));
    fields.add("this update", from);
    fields.add(
        "next update",
        to.map_or_else(|| "none".to_owned(), |to| to.to_string()),
    );
    let revoked = list
        .inner
        .tbs_cert_list
        .revoked_certificates
        .as_deref()
        .unwrap_or(&[]);
    for entry in revoked {
        fields.bytes("revoked serial", entry.serial_number.as_bytes());
    }
    if revoked.is_empty() {
        fields.add("revoked", "none");
    }
}

fn vmsa(page: &Vmsa, fields: &mut Fields) {
    let segment = |s: &Segment| {
        format!(
            "selector {:#x}, attributes {:#x}, limit {:#x}, base {:#x}",
            s.selector.get(),
            s.attributes.get(),
            s.limit.get(),
            s.base.get()
        )
    };
    for (name, value) in [
        ("ES", &page.es),
        ("CS", &page.cs),
        ("SS", &page.ss),
        ("DS", &page.ds),
        ("FS", &page.fs),
        ("GS", &page.gs),
        ("GDTR", &page.gdtr),
        ("LDTR", &page.ldtr),
        ("IDTR", &page.idtr),
        ("TR", &page.tr),
    ] {
        fields.add(name, segment(value));
    }
    fields.add("VMPL", page.vmpl);
    fields.add("CPL", page.cpl);
    for (name, value) in [
        ("EFER", page.efer),
        ("CR0", page.cr0),
        ("CR3", page.cr3),
        ("CR4", page.cr4),
        ("DR6", page.dr6),
        ("DR7", page.dr7),
        ("RFLAGS", page.rflags),
        ("RIP", page.rip),
        ("RSP", page.rsp),
        ("RAX", page.rax),
        ("RBX", page.rbx),
        ("RCX", page.rcx),
        ("RDX", page.rdx),
        ("RSI", page.rsi),
        ("RDI", page.rdi),
        ("RBP", page.rbp),
        ("G_PAT", page.g_pat),
        ("XCR0", page.xcr0),
        ("virtual TOM", page.virtual_tom),
    ] {
        fields.add(name, format!("{:#x}", value.get()));
    }
    let features = page.sev_features.get();
    let known = sev_features::BITS
        .iter()
        .fold(0, |all, bit| all | bit.mask());
    fields.bits(
        "SEV features",
        features,
        &sev_features::BITS,
        features & !known,
    );
    fields.add("MXCSR", format!("{:#x}", page.mxcsr.get()));
    fields.add("x87 FCW", format!("{:#x}", page.x87_fcw.get()));
}
