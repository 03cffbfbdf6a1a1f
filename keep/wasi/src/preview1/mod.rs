// SPDX-License-Identifier: Apache-2.0

//! Preview 1: the functions of `wasi_snapshot_preview1` over the core.
//!
//! Trusted code facing the guest: numbers, pointers and text come from it and are untrusted.
//! Where the interface allows a choice, the answers are those of Wasmtime's own
//! implementation.

mod closing;
mod functions;
mod memory;
mod path;
mod poll;
mod sockets;
mod state;
mod table;
mod trap;
mod types;

pub use state::Preview1;
pub use trap::{CallTrap, EXIT_CODES};

use wasmtime::{Caller, Extern, Linker};

use crate::error::Fault;
use crate::{Exit, View};
use memory::Memory;

/// The module that the functions are imported from.
pub const MODULE: &str = "wasi_snapshot_preview1";

fn call<T: View<Preview1>>(
    caller: &mut Caller<'_, T>,
    function: impl FnOnce(&mut Preview1, &mut Memory<'_>) -> memory::Result<()>,
) -> wasmtime::Result<i32> {
    let memory = match caller.get_export("memory") {
        Some(Extern::Memory(memory)) => memory,
        Some(Extern::SharedMemory(_)) => return Err(CallTrap::SharedMemory.into()),
        _ => return Err(CallTrap::NoMemory.into()),
    };
    let (bytes, state) = memory.data_and_store_mut(caller);
    match function(state.wasi(), &mut Memory::new(bytes)) {
        Ok(()) => Ok(0),
        Err(Fault::Errno(errno)) => Ok(i32::from(errno.code())),
        Err(Fault::Trap(error)) => Err(error),
    }
}

/// Defines the function with a name. False if there is none.
///
/// # Errors
/// When the name is already defined in the linker.
macro_rules! functions {
    ($($name:ident($($argument:ident: $type:ty),*);)*) => {
        /// Names of all functions.
        pub const FUNCTIONS: &[&str] = &["proc_exit", $(stringify!($name)),*];

        /// Defines the function `name` in the linker. False if there is none of this name.
        ///
        /// # Errors
        /// When it is defined already.
        pub fn define<T: View<Preview1>>(linker: &mut Linker<T>, name: &str) -> wasmtime::Result<bool> {
            match name {
                "proc_exit" => {
                    linker.func_wrap(MODULE, name, proc_exit)?;
                }
                $(stringify!($name) => {
                    linker.func_wrap(
                        MODULE,
                        name,
                        |mut caller: Caller<'_, T>, $($argument: $type),*| {
                            call(&mut caller, |state, memory| state.$name(memory, $($argument),*))
                        },
                    )?;
                })*
                _ => return Ok(false),
            }
            Ok(true)
        }
    };
}

functions! {
    args_get(argv: u32, buffer: u32);
    args_sizes_get(count: u32, size: u32);
    environ_get(environ: u32, buffer: u32);
    environ_sizes_get(count: u32, size: u32);
    clock_res_get(clock: u32, result: u32);
    clock_time_get(clock: u32, precision: u64, result: u32);
    fd_advise(fd: u32, offset: u64, length: u64, advice: u32);
    fd_allocate(fd: u32, offset: u64, length: u64);
    fd_close(fd: u32);
    fd_datasync(fd: u32);
    fd_fdstat_get(fd: u32, result: u32);
    fd_fdstat_set_flags(fd: u32, flags: u32);
    fd_fdstat_set_rights(fd: u32, base: u64, inheriting: u64);
    fd_filestat_get(fd: u32, result: u32);
    fd_filestat_set_size(fd: u32, size: u64);
    fd_filestat_set_times(fd: u32, accessed: u64, modified: u64, flags: u32);
    fd_pread(fd: u32, vectors: u32, count: u32, offset: u64, result: u32);
    fd_prestat_get(fd: u32, result: u32);
    fd_prestat_dir_name(fd: u32, path: u32, length: u32);
    fd_pwrite(fd: u32, vectors: u32, count: u32, offset: u64, result: u32);
    fd_read(fd: u32, vectors: u32, count: u32, result: u32);
    fd_readdir(fd: u32, buffer: u32, length: u32, cookie: u64, result: u32);
    fd_renumber(from: u32, to: u32);
    fd_seek(fd: u32, offset: i64, whence: u32, result: u32);
    fd_sync(fd: u32);
    fd_tell(fd: u32, result: u32);
    fd_write(fd: u32, vectors: u32, count: u32, result: u32);
    path_create_directory(fd: u32, path: u32, length: u32);
    path_filestat_get(fd: u32, flags: u32, path: u32, length: u32, result: u32);
    path_filestat_set_times(
        fd: u32, flags: u32, path: u32, length: u32, accessed: u64, modified: u64, times: u32
    );
    path_link(
        from_fd: u32, flags: u32, from: u32, from_length: u32, to_fd: u32, to: u32, to_length: u32
    );
    path_open(
        fd: u32, lookup: u32, path: u32, length: u32, flags: u32, base: u64, inheriting: u64,
        descriptor_flags: u32, result: u32
    );
    path_readlink(fd: u32, path: u32, length: u32, buffer: u32, buffer_length: u32, result: u32);
    path_remove_directory(fd: u32, path: u32, length: u32);
    path_rename(fd: u32, from: u32, from_length: u32, to_fd: u32, to: u32, to_length: u32);
    path_symlink(target: u32, target_length: u32, fd: u32, path: u32, length: u32);
    path_unlink_file(fd: u32, path: u32, length: u32);
    poll_oneoff(subscriptions: u32, events: u32, count: u32, result: u32);
    proc_raise(signal: u32);
    random_get(buffer: u32, length: u32);
    sched_yield();
    sock_accept(fd: u32, flags: u32, result: u32);
    sock_recv(fd: u32, vectors: u32, count: u32, flags: u32, size: u32, result: u32);
    sock_send(fd: u32, vectors: u32, count: u32, flags: u32, result: u32);
    sock_shutdown(fd: u32, how: u32);
}

fn proc_exit(code: u32) -> wasmtime::Result<()> {
    match i32::try_from(code) {
        Ok(status) if code < EXIT_CODES => Err(Exit(status).into()),
        _ => Err(CallTrap::ExitCode.into()),
    }
}
