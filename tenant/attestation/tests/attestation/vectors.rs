// SPDX-License-Identifier: Apache-2.0

//! Evidence captured from genuine hardware, in a folder beside the repository. It is not part of the repository, so
//! tests that need it are ignored if it is absent, unless `ENARX_REQUIRE_VECTORS=1`.

pub use enarx_harness::needs::vectors as folder;

use enarx_attestation::{AmdEndorsements, Endorsements};
use std::fs;
use std::path::Path;

/// One case.
pub struct Case {
    pub name: String,
    pub evidence: Vec<u8>,
    pub endorsements: Endorsements,
    pub expected: serde_json::Value,
}

impl Case {
    pub fn load(folder: &Path, name: &str) -> Self {
        let read = |file: &str| fs::read(folder.join(name).join(file)).ok();
        let evidence = read("report.bin")
            .or_else(|| read("quote.bin"))
            .expect(name);
        let expected = read("expected.json").expect(name);
        Self {
            name: name.to_owned(),
            evidence,
            endorsements: Endorsements {
                amd: AmdEndorsements {
                    vek: read("vek.der"),
                    ask: read("ask.der"),
                    ark: read("ark.der"),
                    crls: Vec::new(),
                },
                intel: read("collateral.json"),
            },
            expected: serde_json::from_slice(&expected).expect(name),
        }
    }

    /// Every existing case, in order.
    pub fn all(folder: &Path) -> Vec<Self> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .expect("the folder of vectors")
            .filter_map(Result::ok)
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name().into_string().expect("a name in UTF-8"))
            .filter(|name| name != "roots")
            .collect();
        names.sort();
        assert!(!names.is_empty(), "no case in {}", folder.display());
        names.iter().map(|name| Self::load(folder, name)).collect()
    }

    pub fn is_snp(&self) -> bool {
        self.name.contains("snp-") || self.endorsements.amd.vek.is_some()
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        self.expected.get(key)?.as_str()
    }
}
