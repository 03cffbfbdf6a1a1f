// SPDX-License-Identifier: Apache-2.0

//! The shared region of a process Keep: a sealed memfd, mapped here.

#![expect(unsafe_code, reason = "mapping memory has no safe interface")]

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use enarx_sallyport::{Facts, REGION_SIZE, Region};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use enarx_executor::SharedExecutor;
use enarx_executor::grant::Grant;
use enarx_executor::launch::Objects;
use enarx_executor::lookups::Lookups;

/// A shared region and its mapping.
#[derive(Debug)]
struct SharedRegion {
    fd: OwnedFd,
    base: NonNull<c_void>,
}

// SAFETY: the address is only used as a `Region`, which is made for several threads.
unsafe impl Send for SharedRegion {}
// SAFETY: as above.
unsafe impl Sync for SharedRegion {}

impl SharedRegion {
    /// A new region, all zeros. Its size is sealed, so that the other side cannot cut it off under us.
    ///
    /// # Errors
    /// The system's.
    fn new() -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = memfd_create(c"enarx-sallyport", flags)?;
        ftruncate(&fd, REGION_SIZE as u64)?;
        fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let base = unsafe {
            mmap(
                std::ptr::null_mut(),
                REGION_SIZE,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &fd,
                0,
            )
        }?;
        let base = NonNull::new(base).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { fd, base })
    }
}

/// An executor and the region that it serves, in the order in which they may be dropped.
#[derive(Debug)]
pub struct Served {
    executor: SharedExecutor,
    region: SharedRegion,
}

impl Served {
    /// A new region, initialised, and its executor.
    ///
    /// # Errors
    /// The system's.
    pub fn new(facts: Facts, grant: Grant, objects: Objects, lookups: Lookups) -> io::Result<Self> {
        let region = SharedRegion::new()?;
        // SAFETY: the mapping is aligned to a page, has the size of a region and stays until `region` is
        // dropped. Only the executor, which gives no copy away, uses it, and it is dropped before. Nobody
        // makes references into it.
        let shared = unsafe { Region::from_raw(region.base.cast()) };
        let executor = SharedExecutor::with(shared, facts, grant, objects, lookups)?;
        Ok(Self { executor, region })
    }

    /// The executor.
    pub fn executor(&self) -> &SharedExecutor {
        &self.executor
    }

    /// The descriptor of the region.
    pub fn region(&self) -> BorrowedFd<'_> {
        self.region.fd.as_fd()
    }
}

impl Drop for SharedRegion {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and its only user is gone (`Served`).
        let unmapped = unsafe { munmap(self.base.as_ptr(), REGION_SIZE) };
        debug_assert!(unmapped.is_ok(), "the mapping is whole");
    }
}
