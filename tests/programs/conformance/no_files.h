// SPDX-License-Identifier: Apache-2.0

// The C library's formatting refers to its files, which are those of preview 1 and not used in components: without these
// a component would need an adapter, and every call would pass through it.
#pragma once
#include <wasi/api.h>

__wasi_errno_t __wasi_fd_close(__wasi_fd_t fd) { return (void)fd, __WASI_ERRNO_NOSYS; }
__wasi_errno_t __wasi_fd_seek(__wasi_fd_t fd, __wasi_filedelta_t offset, __wasi_whence_t whence, __wasi_filesize_t *result) {
    return (void)fd, (void)offset, (void)whence, (void)result, __WASI_ERRNO_NOSYS;
}
__wasi_errno_t __wasi_fd_write(__wasi_fd_t fd, const __wasi_ciovec_t *vectors, size_t count, __wasi_size_t *result) {
    return (void)fd, (void)vectors, (void)count, (void)result, __WASI_ERRNO_NOSYS;
}
