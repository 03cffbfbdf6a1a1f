// SPDX-License-Identifier: Apache-2.0

//! File systems without real files: their files are interfaces to the kernel, about processes and the machine. A Keep,
//! which is not trusted, may open none of them: a program that can write its own `/proc/self/mem` needs no other hole,
//! and a granted directory such as `/` may contain one.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{fstatfs, major, minor};

/// Their numbers in statfs(2) and their names in the list of mounts (Linux, include/uapi/linux/magic.h; configfs:
/// fs/configfs/mount.c).
const INTERFACES: [(i64, &str); 14] = [
    (libc::PROC_SUPER_MAGIC, "proc"),
    (libc::SYSFS_MAGIC, "sysfs"),
    (libc::CGROUP_SUPER_MAGIC, "cgroup"),
    (libc::CGROUP2_SUPER_MAGIC, "cgroup2"),
    (libc::DEBUGFS_MAGIC, "debugfs"),
    (libc::TRACEFS_MAGIC, "tracefs"),
    (libc::SECURITYFS_MAGIC, "securityfs"),
    (libc::SELINUX_MAGIC, "selinuxfs"),
    (libc::SMACK_MAGIC, "smackfs"),
    (libc::BPF_FS_MAGIC, "bpf"),
    (libc::NSFS_MAGIC, "nsfs"),
    (0x4249_4e4d, "binfmt_misc"),
    (0x6265_6570, "configfs"),
    (0xde5e_81e4, "efivarfs"),
];

/// True if a descriptor's file is in such a file system.
///
/// # Errors
/// The system's.
pub fn is_interface(fd: impl AsFd) -> rustix::io::Result<bool> {
    let found = fstatfs(fd)?.f_type;
    Ok(INTERFACES.iter().any(|(number, _)| *number == found))
}

/// True if a device is such a file system, by the list of mounts. The file systems themselves are not asked,
/// because a granted directory may be in one that never answers.
///
/// # Errors
/// The system's, where the list cannot be read.
pub fn is_listed(device: u64) -> io::Result<bool> {
    // Those on a disk have a device of their own.
    if major(device) != 0 {
        return Ok(false);
    }
    let wanted = format!("{}:{}", major(device), minor(device));
    let list = std::fs::read("/proc/self/mountinfo")?;
    let list = String::from_utf8_lossy(&list);
    // proc_pid_mountinfo(5): the third word is the device, and the name follows a dash.
    Ok(list.lines().any(|line| {
        let mut words = line.split(' ');
        let is_wanted = words.nth(2) == Some(wanted.as_str());
        let found = words.skip_while(|word| *word != "-").nth(1);
        is_wanted && INTERFACES.iter().any(|(_, name)| Some(*name) == found)
    }))
}
