// SPDX-License-Identifier: Apache-2.0

//! The values of a policy where its file says nothing, and the built-in policies.

use super::rules::{
    DEFAULT, Endorser, GuestPolicyRules, INSECURE_AUTHENTICITY_ONLY, IntelPolicy, MAX_SKEW,
    Missing, MissingFacts, PlatformRules, Policy, Rule, STANDING_ATTACKS, SW_HARDENING_NEEDED,
    SgxPolicy, SnpPolicy, TdxPolicy, VERSION, all_products, strings, tolerable_statuses,
};
use std::collections::BTreeMap;

impl Default for SnpPolicy {
    fn default() -> Self {
        Self {
            accept: true,
            products: all_products(),
            min_report_version: 3,
            insecure_allow_report_version_2: false,
            insecure_allow_unknown: false,
            signing_keys: vec![Endorser::Vcek, Endorser::Vlek],
            allowed_csps: Vec::new(),
            crl_max_age_days: None,
            insecure_allow_masked_chip_id: false,
            insecure_allow_uncommitted_tcb: false,
            insecure_vmpl: Vec::new(),
            attacks: strings(&STANDING_ATTACKS),
            insecure_ignored_attacks: Vec::new(),
            min_tcb: BTreeMap::new(),
            insecure_ignored_tcb: Vec::new(),
            launch_mitigations: 0,
            current_mitigations: 0,
            min_firmware: None,
            guest_policy: GuestPolicyRules::default(),
            platform: PlatformRules::default(),
            measurements: Vec::new(),
            releases: Vec::new(),
            report_data: None,
            host_data: None,
            id_key_digests: Vec::new(),
            author_key_digests: Vec::new(),
            family_ids: Vec::new(),
            image_ids: Vec::new(),
            min_guest_svn: 0,
            allowed_chips: Vec::new(),
            denied_chips: Vec::new(),
        }
    }
}

impl Default for IntelPolicy {
    fn default() -> Self {
        Self {
            degraded_tcb_statuses: strings(&[SW_HARDENING_NEEDED]),
            insecure_degraded_tcb_statuses: Vec::new(),
            insecure_tcb_statuses: Vec::new(),
            denied_advisories: Vec::new(),
            min_tcb_evaluation_data_number: 0,
            smt: Rule::Any,
            allowed_ppids: Vec::new(),
            denied_ppids: Vec::new(),
        }
    }
}

impl Default for TdxPolicy {
    fn default() -> Self {
        Self {
            accept: true,
            insecure_allow_debug: false,
            insecure_allow_service_td: false,
            mrtd: Vec::new(),
            rtmr0: Vec::new(),
            rtmr1: Vec::new(),
            rtmr2: Vec::new(),
            rtmr3: Vec::new(),
            mrseam: Vec::new(),
            mrconfigid: Vec::new(),
            mrowner: Vec::new(),
            mrownerconfig: Vec::new(),
            report_data: None,
        }
    }
}

impl Default for SgxPolicy {
    fn default() -> Self {
        Self {
            accept: true,
            insecure_allow_debug: false,
            mrenclave: Vec::new(),
            mrsigner: Vec::new(),
            isv_prod_id: None,
            min_isv_svn: 0,
            report_data: None,
        }
    }
}

impl SnpPolicy {
    /// The value for a policy file without this table.
    pub(super) fn absent() -> Self {
        Self {
            accept: false,
            ..Self::default()
        }
    }
}

impl TdxPolicy {
    /// The value for a policy file without this table.
    pub(super) fn absent() -> Self {
        Self {
            accept: false,
            ..Self::default()
        }
    }
}

impl SgxPolicy {
    /// The value for a policy file without this table.
    pub(super) fn absent() -> Self {
        Self {
            accept: false,
            ..Self::default()
        }
    }
}

impl Default for Policy {
    /// The built-in policy `default`.
    fn default() -> Self {
        Self {
            version: VERSION,
            name: DEFAULT.to_owned(),
            clock_skew_seconds: MAX_SKEW,
            insecure_simulated_roots: Vec::new(),
            missing: MissingFacts::default(),
            snp: SnpPolicy::default(),
            intel: IntelPolicy::default(),
            tdx: TdxPolicy::default(),
            sgx: SgxPolicy::default(),
        }
    }
}

impl Policy {
    /// The built-in policy that judges signatures, chains, the agreement of certificate and report and, for quotes,
    /// collateral; no floors, debug bits, revocation of AMD's certificates or measurements.
    pub fn insecure_authenticity_only() -> Self {
        Self {
            name: INSECURE_AUTHENTICITY_ONLY.to_owned(),
            missing: MissingFacts {
                crl: Missing::InsecureIgnore,
                attack_floor: Missing::InsecureIgnore,
                mitigations: Missing::InsecureIgnore,
            },
            snp: SnpPolicy {
                insecure_allow_report_version_2: true,
                insecure_allow_masked_chip_id: true,
                insecure_allow_uncommitted_tcb: true,
                insecure_vmpl: vec![1, 2, 3],
                insecure_ignored_attacks: strings(&STANDING_ATTACKS),
                guest_policy: GuestPolicyRules {
                    insecure_allow_debug: true,
                    insecure_allow_migration_agent: true,
                    ..GuestPolicyRules::default()
                },
                ..SnpPolicy::default()
            },
            intel: IntelPolicy {
                insecure_tcb_statuses: tolerable_statuses(),
                degraded_tcb_statuses: Vec::new(),
                ..IntelPolicy::default()
            },
            tdx: TdxPolicy {
                insecure_allow_debug: true,
                insecure_allow_service_td: true,
                ..TdxPolicy::default()
            },
            sgx: SgxPolicy {
                insecure_allow_debug: true,
                ..SgxPolicy::default()
            },
            ..Self::default()
        }
    }

    /// The built-in policy of this name.
    pub fn builtin(name: &str) -> Option<Self> {
        match name {
            DEFAULT => Some(Self::default()),
            INSECURE_AUTHENTICITY_ONLY => Some(Self::insecure_authenticity_only()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builtin_policies_are_consistent_and_round_trip() {
        for name in [DEFAULT, INSECURE_AUTHENTICITY_ONLY] {
            let policy = Policy::builtin(name).unwrap();
            assert_eq!(policy.name, name);
            assert_eq!(policy.check(), Ok(()));
            assert_eq!(Policy::from_toml(&policy.to_toml()), Ok(policy));
        }
        assert_eq!(Policy::builtin("other"), None);
    }
}
