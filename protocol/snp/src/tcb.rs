// SPDX-License-Identifier: Apache-2.0

//! TCB_VERSION: eight bytes whose meaning depends on the generation (56860 section 2.2). Compared component by
//! component, never as a number: a higher component does not make up for a lower one.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A component of a TCB version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// Firmware of the microcontroller that starts the secure processor (Turin and later).
    Fmc,
    /// Boot loader of the secure processor.
    Bootloader,
    /// Operating system of the secure processor.
    Tee,
    /// SEV-SNP firmware.
    Snp,
    /// Microcode of the x86 cores.
    Microcode,
}

impl Component {
    /// All components.
    pub const ALL: [Self; 5] = [
        Self::Fmc,
        Self::Bootloader,
        Self::Tee,
        Self::Snp,
        Self::Microcode,
    ];

    /// Name in lower case, stable: policies and verdicts use it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fmc => "fmc",
            Self::Bootloader => "bootloader",
            Self::Tee => "tee",
            Self::Snp => "snp",
            Self::Microcode => "microcode",
        }
    }
}

/// How the eight bytes are laid out (56860 section 2.2; 57230 table 11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Milan, Genoa, Bergamo, Siena: byte 0 boot loader, 1 TEE, 6 SNP, 7 microcode.
    Milan,
    /// Turin: byte 0 FMC, 1 boot loader, 2 TEE, 3 SNP, 7 microcode.
    Turin,
}

impl Layout {
    /// The byte that holds `component`, `None` when this layout has none.
    pub const fn byte(self, component: Component) -> Option<usize> {
        match (self, component) {
            (Self::Milan, Component::Fmc) => None,
            (Self::Milan, Component::Bootloader) | (Self::Turin, Component::Fmc) => Some(0),
            (Self::Milan, Component::Tee) | (Self::Turin, Component::Bootloader) => Some(1),
            (Self::Milan, Component::Snp) => Some(6),
            (Self::Turin, Component::Tee) => Some(2),
            (Self::Turin, Component::Snp) => Some(3),
            (_, Component::Microcode) => Some(7),
        }
    }

    /// The structVersion extension of certificates with this layout (57230 table 11).
    pub const fn struct_version(self) -> u8 {
        match self {
            Self::Milan => 0,
            Self::Turin => 1,
        }
    }
}

/// A TCB version as the firmware writes it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(transparent)]
pub struct TcbVersion(pub [u8; 8]);

impl TcbVersion {
    /// The security version number of `component`, `None` when the layout has no such component.
    pub fn get(&self, layout: Layout, component: Component) -> Option<u8> {
        self.0.get(layout.byte(component)?).copied()
    }

    /// This version with one component replaced; unchanged when the layout has no such component.
    #[must_use]
    pub fn with(mut self, layout: Layout, component: Component, svn: u8) -> Self {
        if let Some(byte) = layout.byte(component).and_then(|i| self.0.get_mut(i)) {
            *byte = svn;
        }
        self
    }

    /// True if the bytes that the layout does not use are zero.
    pub fn reserved_is_zero(&self, layout: Layout) -> bool {
        let is_used = |index| {
            Component::ALL
                .iter()
                .any(|it| layout.byte(*it) == Some(index))
        };
        let mut bytes = self.0.iter().enumerate();
        bytes.all(|(index, byte)| *byte == 0 || is_used(index))
    }

    /// True if every component is at least that of `floor`.
    pub fn at_least(&self, floor: &Self, layout: Layout) -> bool {
        Component::ALL
            .iter()
            .all(|c| self.get(layout, *c) >= floor.get(layout, *c))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn genuine_versions_decode() {
        // Seen in genuine evidence: a Milan and a Turin machine.
        let milan = TcbVersion([4, 0, 0, 0, 0, 0, 24, 219]);
        assert_eq!(milan.get(Layout::Milan, Component::Fmc), None);
        assert_eq!(milan.get(Layout::Milan, Component::Snp), Some(24));
        assert_eq!(milan.get(Layout::Milan, Component::Microcode), Some(219));
        assert!(milan.reserved_is_zero(Layout::Milan));
        assert!(!milan.reserved_is_zero(Layout::Turin));
        let turin = TcbVersion([1, 1, 1, 4, 0, 0, 0, 0x51]);
        assert_eq!(turin.get(Layout::Turin, Component::Fmc), Some(1));
        assert_eq!(turin.get(Layout::Turin, Component::Snp), Some(4));
    }

    #[test]
    fn a_higher_component_does_not_make_up_for_a_lower_one() {
        let floor = TcbVersion([3, 0, 0, 0, 0, 0, 8, 100]);
        let newer_microcode = TcbVersion([3, 0, 0, 0, 0, 0, 7, 255]);
        assert!(u64::from_le_bytes(newer_microcode.0) > u64::from_le_bytes(floor.0));
        assert!(!newer_microcode.at_least(&floor, Layout::Milan));
    }

    proptest! {
        #[test]
        fn each_component_below_its_floor_is_detected(raw: [u8; 8], which in 0usize..5, turin: bool) {
            let layout = if turin { Layout::Turin } else { Layout::Milan };
            let component = Component::ALL[which];
            let version = TcbVersion(raw);
            prop_assert!(version.at_least(&version, layout));
            if let Some(svn) = version.get(layout, component).filter(|svn| *svn > 0) {
                prop_assert!(!version.with(layout, component, svn - 1).at_least(&version, layout));
            }
        }
    }
}
