// SPDX-License-Identifier: Apache-2.0

//! The real kernel's SEV-SNP interface: `/dev/kvm`, `/dev/sev`, and the ioctls of a machine.
//!
//! The only file of the launcher with `unsafe`. The kernel is trusted by this process, the guest
//! is not: it writes the shared memory at any time.
#![expect(unsafe_code, reason = "ioctls have no safe interface")]

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use enarx_snp::id_block::{IdAuth, IdBlock};
use enarx_snp::launch::PageType;
use kvm_bindings::{
    KVM_MEM_GUEST_MEMFD, kvm_create_guest_memfd, kvm_device_attr, kvm_enable_cap,
    kvm_memory_attributes, kvm_sev_cmd, kvm_sev_init, kvm_sev_snp_launch_finish,
    kvm_sev_snp_launch_start, kvm_sev_snp_launch_update, kvm_userspace_memory_region2,
    sev_cmd_id_KVM_SEV_INIT2, sev_cmd_id_KVM_SEV_SNP_LAUNCH_FINISH,
    sev_cmd_id_KVM_SEV_SNP_LAUNCH_START, sev_cmd_id_KVM_SEV_SNP_LAUNCH_UPDATE,
};
use kvm_ioctls::{Kvm, VmFd};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::abi::{
    IssueCommand, KVM_GET_DEVICE_ATTR, KVM_HAS_DEVICE_ATTR, SEV_ISSUE_CMD, SNP_PLATFORM_STATUS,
};
use super::device::{CommandError, Device, SourcePage, Vm};
use super::firmware::Status;
use super::platform_status::PlatformStatus;
use crate::vm::backing::Backing;
use crate::vm::vcpu::Vcpu;

/// A device that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be opened: {source}; `enarx doctor` says what is missing", path.display())]
pub struct OpenError {
    /// The device.
    pub path: PathBuf,
    /// The system's answer.
    pub source: io::Error,
}

fn errno(error: kvm_ioctls::Error) -> Errno {
    Errno::from_raw_os_error(error.errno())
}

/// The answer of the last system call of this thread, which failed.
fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// `KVM_HAS_DEVICE_ATTR`, then `KVM_GET_DEVICE_ATTR`, on `/dev/kvm`.
///
/// # Errors
/// The kernel's error, if it has the attribute and does not return it.
pub fn attribute(kvm: &impl AsRawFd, group: u32, attribute: u64) -> Result<Option<u64>, Errno> {
    let mut value = 0u64;
    let request = kvm_device_attr {
        flags: 0,
        group,
        attr: attribute,
        addr: (&raw mut value) as u64,
    };
    // SAFETY: the kernel reads one `kvm_device_attr` and, for this request, no more.
    let has = unsafe {
        libc::ioctl(
            kvm.as_raw_fd(),
            KVM_HAS_DEVICE_ATTR as _,
            &raw const request,
        )
    };
    if has != 0 {
        return Ok(None);
    }
    // SAFETY: the kernel reads one `kvm_device_attr` and writes one u64 at its `addr`: attributes
    // of the system device are 64 bits wide (Linux `kvm_x86_dev_get_attr`), and `value` lives.
    let got = unsafe {
        libc::ioctl(
            kvm.as_raw_fd(),
            KVM_GET_DEVICE_ATTR as _,
            &raw const request,
        )
    };
    if got == 0 {
        Ok(Some(value))
    } else {
        Err(last_errno())
    }
}

/// `SEV_ISSUE_CMD` on `/dev/sev` (`path`), with `SNP_PLATFORM_STATUS`.
///
/// # Errors
/// The kernel's and the secure processor's. Some kernels answer EINVAL while SEV-SNP is not initialized.
pub fn platform_status(path: &Path) -> Result<PlatformStatus, CommandError> {
    let failed = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let sev = File::options()
        .read(true)
        .write(true)
        .open(path)
        .map_err(failed)?;
    let mut status = PlatformStatus::default();
    let mut request = IssueCommand {
        command: SNP_PLATFORM_STATUS,
        data: (&raw mut status) as u64,
        error: 0,
    };
    // SAFETY: the kernel reads and writes one `sev_issue_cmd`, and writes one `sev_user_data_snp_status` at its address,
    // which lives.
    let result = unsafe { libc::ioctl(sev.as_raw_fd(), SEV_ISSUE_CMD as _, &raw mut request) };
    if result == 0 {
        Ok(status)
    } else {
        Err(CommandError {
            errno: last_errno(),
            firmware: Status(request.error),
        })
    }
}

/// The host's devices.
#[derive(Debug)]
pub struct Host {
    kvm: Kvm,
    sev: Arc<File>,
}

impl Host {
    /// Opens `/dev/kvm` and `/dev/sev`.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open() -> Result<Self, OpenError> {
        let failed = |path: &str| {
            let path = PathBuf::from(path);
            |source| OpenError { path, source }
        };
        let kvm = Kvm::new()
            .map_err(|error| io::Error::from_raw_os_error(error.errno()))
            .map_err(failed("/dev/kvm"))?;
        let sev = File::options()
            .read(true)
            .write(true)
            .open(Path::new("/dev/sev"))
            .map_err(failed("/dev/sev"))?;
        Ok(Self {
            kvm,
            sev: Arc::new(sev),
        })
    }

    /// `/dev/kvm`, for what is not particular to SEV-SNP: the CPU that it offers.
    pub fn kvm(&self) -> &Kvm {
        &self.kvm
    }
}

impl Device for Host {
    type Vm = Machine;

    fn check_extension(&self, capability: u32) -> i32 {
        self.kvm.check_extension_raw(capability.into())
    }

    fn attribute(&self, group: u32, number: u64) -> Result<Option<u64>, Errno> {
        attribute(&self.kvm, group, number)
    }

    fn create_vm(&self, kind: u32) -> Result<Machine, Errno> {
        let fd = self.kvm.create_vm_with_type(kind.into()).map_err(errno)?;
        Ok(Machine {
            fd,
            sev: Arc::clone(&self.sev),
            memfds: Vec::new(),
            slots: Vec::new(),
        })
    }
}

/// A slot of a machine.
struct Slot {
    memory: Arc<dyn Backing>,
    /// Number in the machine's descriptors.
    memfd: Option<usize>,
}

impl Slot {
    /// The address of a part of the shared side.
    fn part(&self, offset: u64, length: usize) -> Option<*mut u8> {
        let offset = usize::try_from(offset).ok()?;
        let end = offset.checked_add(length)?;
        // SAFETY: the offset lies in the backing, which stays mapped.
        (end <= self.memory.size()).then(|| unsafe { self.memory.base().as_ptr().add(offset) })
    }
}

/// A virtual machine of the kernel.
pub struct Machine {
    // Declared, and so dropped, before the memory that it uses.
    fd: VmFd,
    /// `/dev/sev`. The kernel looks its number up in the process that finishes the launch, and again whenever the guest
    /// asks the secure processor (Linux `__sev_issue_cmd`): it stays open, under this number, as long as the machine.
    sev: Arc<File>,
    memfds: Vec<OwnedFd>,
    slots: Vec<Slot>,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("fd", &self.fd.as_raw_fd())
            .field("slots", &self.slots.len())
            .finish_non_exhaustive()
    }
}

impl Machine {
    /// The machine, for what is not particular to SEV-SNP.
    pub fn fd(&self) -> &VmFd {
        &self.fd
    }

    /// The descriptors of its private memory.
    pub fn private_memory(&self) -> impl Iterator<Item = RawFd> {
        self.memfds.iter().map(AsRawFd::as_raw_fd)
    }

    /// Issues a command on `data`.
    ///
    /// # Safety
    /// `data` is the structure of this command, and every address in it is valid for the kernel's accesses.
    unsafe fn command<T>(&mut self, id: u32, data: &mut T) -> Result<(), CommandError> {
        let mut command = kvm_sev_cmd {
            id,
            data: (&raw mut *data) as u64,
            // Descriptors are not negative.
            sev_fd: u32::try_from(self.sev.as_raw_fd()).unwrap_or(u32::MAX),
            ..kvm_sev_cmd::default()
        };
        // SAFETY: the kernel reads and writes one `kvm_sev_cmd`, and `data` as the caller promises.
        let result = unsafe { self.fd.encrypt_op(&raw mut command) };
        result.map_err(|error| CommandError {
            errno: errno(error),
            firmware: Status(command.error),
        })
    }
}

impl Vm for Machine {
    type Memory = Arc<dyn Backing>;
    type Vcpu = Vcpu;

    fn enable_capability(&mut self, capability: u32, args: [u64; 4]) -> Result<(), Errno> {
        let request = kvm_enable_cap {
            cap: capability,
            args,
            ..kvm_enable_cap::default()
        };
        self.fd.enable_cap(&request).map_err(errno)
    }

    fn sev_init(&mut self, init: &mut kvm_sev_init) -> Result<(), CommandError> {
        // SAFETY: the structure of INIT2; it has no addresses.
        unsafe { self.command(sev_cmd_id_KVM_SEV_INIT2, init) }
    }

    fn create_guest_memfd(&mut self, request: kvm_create_guest_memfd) -> Result<u32, Errno> {
        let raw: RawFd = self.fd.create_guest_memfd(request).map_err(errno)?;
        // SAFETY: the kernel just made the descriptor, nobody else has it.
        let memfd = unsafe { OwnedFd::from_raw_fd(raw) };
        let number = u32::try_from(raw).map_err(|_| Errno::BADF)?;
        self.memfds.push(memfd);
        Ok(number)
    }

    fn set_memory_region(
        &mut self,
        mut region: kvm_userspace_memory_region2,
        memory: Arc<dyn Backing>,
    ) -> Result<(), Errno> {
        let next = u32::try_from(self.slots.len()).map_err(|_| Errno::INVAL)?;
        if region.slot != next || region.memory_size != memory.size() as u64 {
            return Err(Errno::INVAL);
        }
        let memfd = if region.flags & KVM_MEM_GUEST_MEMFD == 0 {
            None
        } else {
            let same = |memfd: &OwnedFd| u32::try_from(memfd.as_raw_fd()) == Ok(region.guest_memfd);
            Some(self.memfds.iter().position(same).ok_or(Errno::BADF)?)
        };
        region.userspace_addr = memory.base().as_ptr() as u64;
        // SAFETY: the memory is as long as the region and stays mapped: this machine and all its
        // vCPUs keep the backing until they are dropped. The guest may write it by `Backing`.
        unsafe { self.fd.set_user_memory_region2(region) }.map_err(errno)?;
        self.slots.push(Slot { memory, memfd });
        Ok(())
    }

    fn set_memory_attributes(&self, request: kvm_memory_attributes) -> Result<(), Errno> {
        self.fd.set_memory_attributes(request).map_err(errno)
    }

    fn discard_private(&self, slot: usize, offset: u64, length: u64) -> Result<(), Errno> {
        let slot = self.slots.get(slot).ok_or(Errno::INVAL)?;
        let bytes = usize::try_from(length).map_err(|_| Errno::INVAL)?;
        slot.part(offset, bytes).ok_or(Errno::INVAL)?;
        let memfd = slot.memfd.and_then(|number| self.memfds.get(number));
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(memfd.ok_or(Errno::INVAL)?, mode, offset, length)
    }

    fn discard_shared(&self, slot: usize, offset: u64, length: u64) -> Result<(), Errno> {
        let length = usize::try_from(length).map_err(|_| Errno::INVAL)?;
        let part = self
            .slots
            .get(slot)
            .and_then(|slot| slot.part(offset, length))
            .ok_or(Errno::INVAL)?;
        // SAFETY: the part lies in the backing, whose bytes may become zero at any time.
        unsafe { rustix::mm::madvise(part.cast(), length, rustix::mm::Advice::LinuxDontNeed) }
    }

    fn launch_start(&mut self, start: &mut kvm_sev_snp_launch_start) -> Result<(), CommandError> {
        // SAFETY: the structure of SNP_LAUNCH_START; it has no addresses.
        unsafe { self.command(sev_cmd_id_KVM_SEV_SNP_LAUNCH_START, start) }
    }

    fn launch_update(
        &mut self,
        update: &mut kvm_sev_snp_launch_update,
        source: &mut [SourcePage],
    ) -> Result<(), CommandError> {
        if update.type_ != PageType::Zero as u8 {
            let base = source.as_mut_ptr() as u64;
            let inside = update
                .uaddr
                .checked_sub(base)
                .and_then(|offset| offset.checked_add(update.len))
                .is_some_and(|end| end <= size_of_val(source) as u64);
            if !inside {
                return Err(Errno::FAULT.into());
            }
        }
        // SAFETY: the structure of SNP_LAUNCH_UPDATE; the kernel reads `len` bytes from `uaddr`
        // and may write a corrected CPUID page back: all inside of `source`, which is borrowed
        // exclusively, or not at all for zero pages.
        unsafe { self.command(sev_cmd_id_KVM_SEV_SNP_LAUNCH_UPDATE, update) }
    }

    fn create_vcpu(&mut self, id: u32) -> Result<Vcpu, Errno> {
        let fd = self.fd.create_vcpu(id.into()).map_err(errno)?;
        let memory = self.slots.iter().map(|slot| Arc::clone(&slot.memory));
        Ok(Vcpu::keeping(fd, memory.collect()))
    }

    fn launch_finish(
        &mut self,
        finish: &mut kvm_sev_snp_launch_finish,
        identity: Option<(&IdBlock, &IdAuth)>,
    ) -> Result<(), CommandError> {
        if (finish.id_block_en != 0) != identity.is_some() {
            return Err(Errno::INVAL.into());
        }
        if let Some((block, auth)) = identity {
            finish.id_block_uaddr = (&raw const *block) as u64;
            finish.id_auth_uaddr = (&raw const *auth) as u64;
        }
        // SAFETY: the structure of SNP_LAUNCH_FINISH; the kernel reads an ID block and its
        // authentication, whose sizes are the types', from references that live; none where
        // `id_block_en` is 0.
        unsafe { self.command(sev_cmd_id_KVM_SEV_SNP_LAUNCH_FINISH, finish) }
    }
}

/// vCPU threads convert pages on one machine, each with its own vCPU.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    const fn sent<T: Send>() {}
    shared::<Machine>();
    sent::<Vcpu>();
};

#[cfg(test)]
mod tests {
    use enarx_snp::vmsa::{Segment, Vmsa};
    use kvm_bindings::KVM_MAX_CPUID_ENTRIES;

    use super::*;
    use crate::vm::memory::GuestMemory;
    use crate::vm::registers::{NewVcpu, Registers};

    const SIZE: usize = 2 << 20;

    /// This machine's KVM, without a secure processor.
    fn host() -> Host {
        enarx_harness::needs::kvm();
        Host {
            kvm: Kvm::new().unwrap(),
            sev: Arc::new(File::open("/dev/null").unwrap()),
        }
    }

    fn region(slot: u32, gpa: u64) -> kvm_userspace_memory_region2 {
        kvm_userspace_memory_region2 {
            slot,
            guest_phys_addr: gpa,
            memory_size: SIZE as u64,
            ..kvm_userspace_memory_region2::default()
        }
    }

    #[test]
    fn attributes_of_the_real_device() {
        let host = host();
        // Group 0, attribute 0: the state components that guests may have (Linux 5.17).
        let components = host.attribute(0, 0).unwrap();
        assert_eq!(components.map(|bits| bits & 3), Some(3));
        assert_eq!(host.attribute(77, 0), Ok(None));
    }

    #[test]
    fn slots_of_a_real_machine() {
        let host = host();
        let mut vm = host.create_vm(0).unwrap();
        let memory = GuestMemory::in_place(SIZE as u64, &[]).unwrap();
        let backing = || memory.backing();
        let byte = |gpa| memory.read_private(gpa).unwrap()[0];
        let short = kvm_userspace_memory_region2 {
            memory_size: SIZE as u64 - 4096,
            ..region(0, 0)
        };
        for wrong in [region(1, 0), short] {
            assert_eq!(vm.set_memory_region(wrong, backing()), Err(Errno::INVAL));
        }
        vm.set_memory_region(region(0, 0), backing()).unwrap();
        memory.load(4096, &[7]);
        memory.load(8192, &[8]);
        vm.discard_shared(0, 4096, 4096).unwrap();
        assert_eq!((byte(4096), byte(8192)), (0, 8));
        for (slot, offset, length) in [
            (0, SIZE as u64, 4096),
            (0, u64::MAX, 4096),
            (0, 4096, SIZE as u64),
            (1, 0, 4096),
        ] {
            assert_eq!(vm.discard_shared(slot, offset, length), Err(Errno::INVAL));
            assert_eq!(vm.discard_private(slot, offset, length), Err(Errno::INVAL));
        }
        assert_eq!(
            vm.discard_private(0, 0, 4096),
            Err(Errno::INVAL),
            "no private side"
        );

        let request = kvm_create_guest_memfd {
            size: SIZE as u64,
            ..kvm_create_guest_memfd::default()
        };
        let unknown = kvm_userspace_memory_region2 {
            flags: KVM_MEM_GUEST_MEMFD,
            guest_memfd: 12345,
            ..region(1, SIZE as u64)
        };
        assert_eq!(vm.set_memory_region(unknown, backing()), Err(Errno::BADF));
        let offered = vm.fd.check_extension_raw(234) > 0;
        let memfd = vm.create_guest_memfd(request);
        assert_eq!(memfd.is_ok(), offered, "{memfd:?}");
        if let Ok(guest_memfd) = memfd {
            let private = kvm_userspace_memory_region2 {
                guest_memfd,
                ..unknown
            };
            vm.set_memory_region(private, backing()).unwrap();
            vm.discard_private(1, 0, 4096).unwrap();
            assert_eq!(vm.discard_private(1, SIZE as u64, 4096), Err(Errno::INVAL));
        }
        // A vCPU keeps the memory as long as it lives.
        let vcpu = vm.create_vcpu(0).unwrap();
        let kept = Arc::downgrade(&memory.backing());
        drop((vm, memory));
        assert!(kept.upgrade().is_some());
        drop(vcpu);
        assert!(kept.upgrade().is_none());
    }

    #[test]
    fn a_real_vcpu_gets_the_registers_of_a_page() {
        let host = host();
        let mut vm = host.create_vm(0).unwrap();
        let mut vcpu = vm.create_vcpu(0).unwrap();
        let data = Segment::new(0x10, 0xc93, 0xffff_ffff, 0);
        let vmsa = Vmsa {
            cs: Segment::new(0x08, 0xa9b, 0xffff_ffff, 0),
            ss: data,
            ds: data,
            es: data,
            fs: Segment::new(0x10, 0xc93, 0xffff_ffff, 0x7fff_1000),
            gs: data,
            gdtr: Segment::new(0, 0, 39, 0x1000),
            idtr: Segment::new(0, 0, 0xfff, 0x2000),
            tr: Segment::new(0x28, 0x8b, 103, 0x3000),
            efer: 0x1d01.into(),
            cr0: 0x8005_0033.into(),
            cr3: 0x6000.into(),
            cr4: 0x4_06e0.into(),
            dr6: 0xffff_0ff0.into(),
            dr7: 0x400.into(),
            rflags: 2.into(),
            rip: 0x10_0000.into(),
            rsp: 0x20_0000.into(),
            r8_to_r15: [1, 2, 3, 4, 5, 6, 7, 8].map(Into::into),
            star: (0x13 << 48 | 0x08 << 32).into(),
            lstar: 0x10_1000.into(),
            sfmask: 0x25_7f00.into(),
            kernel_gs_base: 0x7000.into(),
            g_pat: 0x0007_0406_0007_0406.into(),
            sev_features: 1.into(),
            xcr0: 3.into(),
            mxcsr: 0x1f80.into(),
            x87_fcw: 0x37f.into(),
            ..Vmsa::default()
        };
        let page: [u8; 4096] = zerocopy::transmute!(vmsa);
        let cpuid = host
            .kvm()
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .unwrap();
        let registers = Registers::from_page(0, &page, 1).unwrap();
        registers.apply(0, &mut vcpu, &cpuid).unwrap();
        let regs = vcpu.fd().get_regs().unwrap();
        assert_eq!((regs.rip, regs.rsp, regs.r8), (0x10_0000, 0x20_0000, 1));
        let sregs = vcpu.sregs().unwrap();
        assert_eq!((sregs.cr3, sregs.efer & 0xd01), (0x6000, 0xd01));
        assert_eq!(
            (sregs.cs.l, sregs.fs.base, sregs.tr.base),
            (1, 0x7fff_1000, 0x3000)
        );
    }

    #[test]
    fn commands_are_checked_and_reach_the_kernel() {
        let mut vm = host().create_vm(0).unwrap();
        let mut source = [SourcePage([0; 4096]), SourcePage([0; 4096])];
        let base = source.as_ptr() as u64;
        for (uaddr, len) in [
            (0, 4096),
            (base - 4096, 4096),
            (base, 3 * 4096),
            (base + 8192, 4096),
            (base, u64::MAX),
        ] {
            let mut update = kvm_sev_snp_launch_update {
                uaddr,
                len,
                type_: PageType::Normal as u8,
                ..kvm_sev_snp_launch_update::default()
            };
            let answer = vm.launch_update(&mut update, &mut source);
            assert_eq!(answer, Err(Errno::FAULT.into()));
        }
        let mut finish = kvm_sev_snp_launch_finish {
            id_block_en: 1,
            ..kvm_sev_snp_launch_finish::default()
        };
        let answer = vm.launch_finish(&mut finish, None);
        assert_eq!(answer, Err(Errno::INVAL.into()), "an ID block without one");
        // A plain machine has no such command; what counts is that the kernel says so.
        let refused = vm.sev_init(&mut kvm_sev_init::default()).unwrap_err();
        assert_eq!(refused.firmware, Status::SUCCESS);
        assert!(
            [Errno::NOTTY, Errno::INVAL].contains(&refused.errno),
            "{refused}"
        );
    }
}
