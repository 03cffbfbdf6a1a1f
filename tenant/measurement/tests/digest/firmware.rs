// SPDX-License-Identifier: Apache-2.0

//! A made-up firmware image that the other tools can measure (they know launches by OVMF and QEMU only), and the same
//! launch as our page list.

use enarx_launch::layout::Page;
use enarx_snp::launch::{PageType, VMSA_GPA};
use enarx_snp::vmsa::{Segment, Vmsa};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

/// The start address of the other vCPUs, according to the firmware.
const RESET_EIP: u32 = 0x0080_b004;
/// The start address of the first vCPU.
const BOOT_EIP: u32 = 0xffff_fff0;
/// CPUID signature of QEMU's model EPYC-v4, which QEMU puts into RDX: family 17h, model 1, stepping 2.
pub const EPYC_V4: u64 = 0x0080_0f12;

/// The sections of the metadata: address, size and type (OvmfSevMetadata.asm of edk2).
const SECTIONS: [(u32, u32, u32); 5] = [
    (0x80_0000, 0x9000, 1),
    (0x80_d000, 0x1000, 2),
    (0x80_e000, 0x1000, 3),
    (0x80_f000, 0x2000, 4),
    (0x81_1000, 0x1000, 0x10),
];

/// A GUID as in firmware: the first three fields little-endian.
fn guid(a: u32, b: u16, c: u16, rest: [u8; 8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(a.to_le_bytes());
    bytes.extend(b.to_le_bytes());
    bytes.extend(c.to_le_bytes());
    bytes.extend(rest);
    bytes
}

/// The firmware image: two pages of a pattern, and the tables in which OVMF describes itself.
pub fn image() -> Vec<u8> {
    let mut image: Vec<u8> = (0..0x2000u32)
        .map(|i| (i * 7 + (i >> 8)).to_le_bytes()[0])
        .collect();
    let metadata_at = 0x1000;
    let mut metadata = b"ASEV".to_vec();
    let size = 16 + 12 * SECTIONS.len();
    for word in [size, 1, SECTIONS.len()] {
        metadata.extend(u32::try_from(word).unwrap().to_le_bytes());
    }
    for (gpa, size, kind) in SECTIONS {
        for word in [gpa, size, kind] {
            metadata.extend(word.to_le_bytes());
        }
    }
    image[metadata_at..metadata_at + metadata.len()].copy_from_slice(&metadata);

    let mut table = Vec::new();
    let mut entry = |data: &[u8], guid: Vec<u8>| {
        table.extend_from_slice(data);
        let size = u16::try_from(data.len() + 18).unwrap();
        table.extend(size.to_le_bytes());
        table.extend(guid);
    };
    let from_end = u32::try_from(image.len() - metadata_at).unwrap();
    entry(
        &from_end.to_le_bytes(),
        guid(
            0xdc88_6566,
            0x984a,
            0x4798,
            *b"\xa7\x5e\x55\x85\xa7\xbf\x67\xcc",
        ),
    );
    entry(
        &RESET_EIP.to_le_bytes(),
        guid(
            0x00f7_71de,
            0x1a7e,
            0x4fcb,
            *b"\x89\x0e\x68\xc7\x7e\x2f\xb4\x4e",
        ),
    );
    let size = u16::try_from(table.len() + 18).unwrap();
    table.extend(size.to_le_bytes());
    table.extend(guid(
        0x96b5_82de,
        0x1fb2,
        0x45f7,
        *b"\xba\xea\xa3\x66\xc5\x5a\x08\x2d",
    ));
    let end = image.len() - 32;
    image[end - table.len()..end].copy_from_slice(&table);
    image
}

/// The state in which QEMU starts a vCPU of an SNP guest.
pub fn vmsa(first: bool, features: u64) -> Vmsa {
    let eip = if first { BOOT_EIP } else { RESET_EIP };
    let data = Segment::new(0, 0x93, 0xffff, 0);
    Vmsa {
        es: data,
        cs: Segment::new(0xf000, 0x9b, 0xffff, u64::from(eip & 0xffff_0000)),
        ss: data,
        ds: data,
        fs: data,
        gs: data,
        gdtr: Segment::new(0, 0, 0xffff, 0),
        idtr: Segment::new(0, 0, 0xffff, 0),
        ldtr: Segment::new(0, 0x82, 0xffff, 0),
        tr: Segment::new(0, 0x8b, 0xffff, 0),
        efer: U64::new(0x1000),
        cr4: U64::new(0x40),
        cr0: U64::new(0x10),
        dr7: U64::new(0x400),
        dr6: U64::new(0xffff_0ff0),
        rflags: U64::new(2),
        rip: U64::new(u64::from(eip & 0xffff)),
        g_pat: U64::new(0x0007_0406_0007_0406),
        rdx: U64::new(EPYC_V4),
        sev_features: U64::new(features),
        xcr0: U64::new(1),
        mxcsr: U32::new(0x1f80),
        x87_fcw: U16::new(0x37f),
        ..Vmsa::default()
    }
}

fn page(gpa: u64, kind: PageType, bytes: &[u8]) -> Page {
    let mut page = Page {
        gpa,
        kind,
        bytes: Box::new([0; 4096]),
    };
    page.bytes[..bytes.len()].copy_from_slice(bytes);
    page
}

/// The page list of a QEMU launch of this firmware.
pub fn pages(vcpus: usize, features: u64) -> Vec<Page> {
    let image = image();
    let base = (1 << 32) - image.len() as u64;
    let mut pages: Vec<_> = image
        .chunks(4096)
        .zip(0..)
        .map(|(bytes, index)| page(base + index * 4096, PageType::Normal, bytes))
        .collect();
    for (gpa, size, kind) in SECTIONS {
        let kind = match kind {
            2 => PageType::Secrets,
            3 => PageType::Cpuid,
            _ => PageType::Zero,
        };
        for offset in (0..size).step_by(4096) {
            pages.push(page((gpa + offset).into(), kind, &[]));
        }
    }
    for vcpu in 0..vcpus {
        let vmsa = vmsa(vcpu == 0, features);
        pages.push(page(VMSA_GPA, PageType::Vmsa, vmsa.as_bytes()));
    }
    pages
}
