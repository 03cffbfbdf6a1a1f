// SPDX-License-Identifier: Apache-2.0

//! The launch's data for the microkernel, from the boot page: checked, and as frames. In a measured
//! Keep the boot page is measured; the checks here ensure that a mistake in it can only end the Keep.

use enarx_boot::address::{CBit, Gpa, VirtAddr};
use enarx_boot::boot_page::{self, BootInfo};
use enarx_boot::layout::{LARGE, LAUNCH_END, PAGE, SHARED_END, USER_END};
use enarx_exits::BootCheck;

use crate::fatal::Fatal;
use crate::frame::{Frame, Slot};

/// The holder of the boot page: the machine, which vouches that only the launch has written it. Its addresses
/// become frames.
pub trait BootPage {
    /// The contents.
    fn boot_info(&self) -> BootInfo;
}

/// The launch's frames. Only a [`BootPage`] can create it, which proves that its memory belongs to the Keep.
#[derive(Clone, Copy, Debug)]
pub struct Launch {
    pub(crate) boot: BootInfo,
    pub(crate) c_bit: CBit,
    /// The first page table (PML4).
    pub root: Frame,
    /// The two words that `AT_RANDOM` points to.
    pub random_bytes: [Slot; 2],
    /// Data that only a launch under SEV-SNP leaves.
    pub snp: Option<SnpLaunch>,
}

/// Data that a launch under SEV-SNP leaves.
#[derive(Clone, Copy, Debug)]
pub struct SnpLaunch {
    /// The page that the firmware has checked.
    pub cpuid: Frame,
    /// The firmware's secrets.
    pub secrets: Frame,
    /// The shared pages with the runtime image, 2 MiB multiples.
    pub(crate) image: (Gpa, Gpa),
    /// End of the user addresses of the loader.
    pub loader_end: VirtAddr,
    /// SEV_FEATURES of every vCPU.
    pub sev_features: u64,
    /// The GDT.
    pub gdt: VirtAddr,
    /// The IDT.
    pub idt: VirtAddr,
}

impl Launch {
    /// Takes the boot page apart.
    ///
    /// # Errors
    /// [`enarx_exits::Reason::Boot`] with the [`BootCheck`] that failed.
    pub fn new(machine: &impl BootPage) -> Result<Self, Fatal> {
        let boot = machine.boot_info();
        let is_snp = boot.flags & boot_page::FLAG_SNP != 0;
        let known = boot.magic == boot_page::MAGIC && boot.flags & !boot_page::FLAGS == 0;
        check(BootCheck::BootPage, known && is_snp == (boot.c_bit != 0))?;
        let c_bit = match boot.c_bit {
            0 => CBit::NONE,
            mask => CBit::new(mask).ok_or(Fatal::boot(BootCheck::SnpLaunch))?,
        };
        let page = |gpa: u64, most: u64, number| {
            check(number, gpa.is_multiple_of(PAGE) && gpa < most)?;
            Ok::<_, Fatal>(Frame::of(c_bit.private(Gpa::new(gpa))))
        };
        let launch_page = |gpa| page(gpa, LAUNCH_END, BootCheck::SnpLaunch);
        let snp = if is_snp {
            let sane = boot.image_start.is_multiple_of(LARGE)
                && boot.free_start.is_multiple_of(LARGE)
                && boot.image_start >= SHARED_END
                && boot.image_start <= boot.free_start
                && boot.loader_end.is_multiple_of(LARGE)
                && boot.loader_end <= boot.heap_start;
            check(BootCheck::SnpLaunch, sane)?;
            Some(SnpLaunch {
                cpuid: launch_page(boot.cpuid_page)?,
                secrets: launch_page(boot.secrets_page)?,
                image: (Gpa::new(boot.image_start), Gpa::new(boot.free_start)),
                loader_end: VirtAddr::new(boot.loader_end),
                sev_features: boot.sev_features,
                gdt: VirtAddr::new(boot.gdt),
                idt: VirtAddr::new(boot.idt),
            })
        } else {
            None
        };
        let user = boot.user_entry < USER_END && boot.user_stack < USER_END;
        check(BootCheck::UserState, user)?;
        let random = boot.random_bytes;
        let stack = page(
            random - random % PAGE,
            boot.free_start,
            BootCheck::UserState,
        )?;
        check(BootCheck::UserState, random.is_multiple_of(16))?;
        let area = boot.launch_free.is_multiple_of(PAGE) && boot.launch_free <= LAUNCH_END;
        check(BootCheck::LaunchArea, area)?;
        let free = boot.free_start.is_multiple_of(LARGE) && boot.free_start >= SHARED_END;
        check(BootCheck::FreeMemory, free)?;
        Ok(Self {
            boot,
            c_bit,
            root: page(boot.root, LAUNCH_END, BootCheck::Tables)?,
            random_bytes: [0, 1].map(|word| stack.slot(random / 8).skip(word)),
            snp,
        })
    }
}

/// One of the checks at boot.
pub(crate) fn check(number: BootCheck, ok: bool) -> Result<(), Fatal> {
    if ok { Ok(()) } else { Err(Fatal::boot(number)) }
}
