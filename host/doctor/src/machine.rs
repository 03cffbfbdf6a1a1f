// SPDX-License-Identifier: Apache-2.0

//! The object of the checks: the machine, or a picture of one in tests.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use kvm_ioctls::Kvm;
use rustix::fs::{Access, access};
use rustix::io::Errno;

use enarx_vmm::snp;
use enarx_vmm::snp::device::CommandError;
use enarx_vmm::snp::platform_status::PlatformStatus;

/// Where facts come from.
pub trait Machine {
    /// The contents of a file of `/proc`, `/sys` or the like.
    ///
    /// # Errors
    /// The system's.
    fn read(&self, path: &str) -> io::Result<String>;
    /// True if something exists.
    fn exists(&self, path: &str) -> bool;
    /// True if this user may read and write it.
    fn usable(&self, path: &str) -> bool;
    /// The registers EAX, EBX, ECX and EDX of a CPUID leaf; `None` when the leaf does not exist.
    fn cpuid(&self, leaf: u32) -> Option<[u32; 4]>;
    /// KVM's API version, and what it answers to `KVM_CHECK_EXTENSION` for each of `extensions`.
    ///
    /// # Errors
    /// The system's, when `/dev/kvm` cannot be opened.
    fn kvm(&self, extensions: &[u32]) -> io::Result<(i32, BTreeMap<u32, i32>)>;
    /// KVM's value of an attribute of `/dev/kvm`; `None` when this kernel does not have it.
    ///
    /// # Errors
    /// The system's.
    fn kvm_attribute(&self, group: u32, attribute: u64) -> Result<Option<u64>, Errno>;
    /// The secure processor's account of itself, by `/dev/sev`.
    ///
    /// # Errors
    /// The system's and the secure processor's.
    fn platform_status(&self) -> Result<PlatformStatus, CommandError>;
    /// The version of the Landlock interface; 0 = none.
    fn landlock_abi(&self) -> i32;
    /// True if this process is root.
    fn is_root(&self) -> bool;
    /// The group whose members may read and write something; `None` when only its owner may, or root's group.
    fn group(&self, path: &str) -> Option<String>;
}

/// The machine that this program runs on; files are looked for below a root.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
}

impl Host {
    /// This machine.
    pub fn new() -> Self {
        Self { root: "/".into() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine for Host {
    fn read(&self, path: &str) -> io::Result<String> {
        std::fs::read_to_string(self.path(path))
    }

    fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    fn usable(&self, path: &str) -> bool {
        access(self.path(path), Access::READ_OK | Access::WRITE_OK).is_ok()
    }

    fn cpuid(&self, leaf: u32) -> Option<[u32; 4]> {
        cpuid(leaf)
    }

    fn kvm(&self, extensions: &[u32]) -> io::Result<(i32, BTreeMap<u32, i32>)> {
        ask_kvm(&self.path("/dev/kvm"), extensions)
    }

    fn kvm_attribute(&self, group: u32, attribute: u64) -> Result<Option<u64>, Errno> {
        let kvm = open_kvm(&self.path("/dev/kvm"))
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::NODEV))?;
        snp::ioctl::attribute(&kvm, group, attribute)
    }

    fn platform_status(&self) -> Result<PlatformStatus, CommandError> {
        snp::ioctl::platform_status(&self.path("/dev/sev"))
    }

    fn landlock_abi(&self) -> i32 {
        super::landlock_abi::version()
    }

    fn is_root(&self) -> bool {
        rustix::process::geteuid().is_root()
    }

    fn group(&self, path: &str) -> Option<String> {
        use std::os::unix::fs::MetadataExt;
        /// Rights of the group to read and to write.
        const READ_AND_WRITE: u32 = 0o060;
        let metadata = std::fs::metadata(self.path(path)).ok()?;
        if metadata.mode() & READ_AND_WRITE != READ_AND_WRITE || metadata.gid() == 0 {
            return None;
        }
        let number = metadata.gid().to_string();
        let groups = self.read("/etc/group").ok()?;
        groups.lines().find_map(|line| {
            let mut fields = line.split(':');
            let (name, found) = (fields.next()?, fields.nth(1)?);
            (found == number).then(|| name.to_owned())
        })
    }
}

fn open_kvm(path: &Path) -> io::Result<Kvm> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    Ok(Kvm::new_with_path(path)?)
}

fn ask_kvm(path: &Path, extensions: &[u32]) -> io::Result<(i32, BTreeMap<u32, i32>)> {
    let kvm = open_kvm(path)?;
    let answers = extensions
        .iter()
        .map(|number| (*number, kvm.check_extension_raw(u64::from(*number))))
        .collect();
    Ok((kvm.get_api_version(), answers))
}

fn cpuid(leaf: u32) -> Option<[u32; 4]> {
    use std::arch::x86_64::{__cpuid_count, __get_cpuid_max};
    // The highest leaf of a range stands in the range's first leaf.
    let (highest, _) = __get_cpuid_max(leaf & 0x8000_0000);
    if leaf > highest {
        return None;
    }
    let result = __cpuid_count(leaf, 0);
    Some([result.eax, result.ebx, result.ecx, result.edx])
}
