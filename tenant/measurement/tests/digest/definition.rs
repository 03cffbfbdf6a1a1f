// SPDX-License-Identifier: Apache-2.0

//! AMD's definition recomputed by `recompute.py` over dumped page lists with every type of page.

use std::path::Path;
use std::process::Command;

use enarx_attestation::hex;
use enarx_boot_image::{LOADER, MICROKERNEL};
use enarx_harness::needs;
use enarx_launch::Runtime;
use enarx_launch::layout::Page;
use enarx_launch::measured::{C_BIT, Images, Parameters, launch};
use enarx_launch::variant::Variant;
use enarx_measurement::launch_digest;
use enarx_snp::launch::{PageType, VMSA_GPA};

use crate::firmware;
use crate::program::runtime;

/// A page list with every type of page; the bytes are a pattern that differs from page to page.
fn pages_of_every_type() -> Vec<Page> {
    (0u64..120)
        .map(|index| {
            let number = u8::try_from(index % 6 + 1).unwrap();
            let kind = PageType::from_number(number).unwrap();
            let mut bytes = Box::new([0; 4096]);
            if kind.contents_are_measured() {
                for (offset, byte) in (0u64..).zip(bytes.iter_mut()) {
                    *byte = (index * 31 + offset * (index | 1)).to_le_bytes()[0];
                }
            }
            Page {
                gpa: match kind {
                    PageType::Vmsa => VMSA_GPA,
                    _ => 0x20_0000 + index * 4096,
                },
                kind,
                bytes,
            }
        })
        .collect()
}

/// The page list of a launch.
fn launched(vcpus: u32) -> Vec<Page> {
    let bytes = runtime(1);
    let images = Images {
        microkernel: MICROKERNEL,
        loader: LOADER,
        runtime: Runtime::of(&bytes),
    };
    let parameters = Parameters {
        vcpus,
        c_bit: C_BIT,
        fault_addresses: false,
        variant: Variant::PLAIN,
    };
    launch(&images, &parameters).unwrap().pages
}

/// Runs the script on this list.
fn recomputed(pages: &[Page]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("pages");
    let mut dump = Vec::new();
    for page in pages {
        dump.push(page.kind as u8);
        dump.extend(page.gpa.to_le_bytes());
        dump.extend(page.bytes.as_slice());
    }
    std::fs::write(&list, dump).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recompute.py");
    match Command::new("python3").arg(script).arg(&list).output() {
        Ok(output) => {
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{errors}");
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        }
        Err(error) => needs::lacking("PROGRAMS", &format!("python3: {error}")),
    }
}

#[test]
fn the_digest_is_the_one_of_the_definition() {
    for pages in [
        Vec::new(),
        pages_of_every_type(),
        firmware::pages(3, 1),
        launched(4),
    ] {
        assert_eq!(hex::encode(&launch_digest(&pages)), recomputed(&pages));
    }
}

#[test]
fn every_change_that_the_processor_would_see_changes_the_digest() {
    let pages = pages_of_every_type();
    let digest = launch_digest(&pages);
    for index in 0..pages.len() {
        let mut changed = pages.clone();
        changed[index].gpa ^= 0x1000;
        assert_ne!(launch_digest(&changed), digest, "address {index}");
        let mut changed = pages.clone();
        changed[index].bytes[4095] ^= 1;
        let measured = pages[index].kind.contents_are_measured();
        assert_eq!(launch_digest(&changed) != digest, measured, "byte {index}");
        let mut changed = pages.clone();
        changed[index].kind = PageType::from_number(pages[index].kind as u8 % 6 + 1).unwrap();
        assert_ne!(launch_digest(&changed), digest, "type {index}");
        let mut changed = pages.clone();
        let page = changed.remove(index);
        assert_ne!(launch_digest(&changed), digest, "without {index}");
        changed.push(page);
        let last = index == pages.len() - 1;
        assert_eq!(launch_digest(&changed) == digest, last, "order {index}");
    }
}
