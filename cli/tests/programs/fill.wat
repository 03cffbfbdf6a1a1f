;; SPDX-License-Identifier: Apache-2.0

;; Writes 64 KiB to standard output for each of its arguments. Ends at the first error, with its number.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get"
    (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 2)
  (func (export "_start") (local $left i32) (local $error i32)
    ;; 64 KiB of zeros.
    (i32.store (i32.const 0) (i32.const 65536))
    (i32.store (i32.const 4) (i32.const 65536))
    (drop (call $sizes (i32.const 16) (i32.const 20)))
    (local.set $left (i32.load (i32.const 16)))
    (loop $again
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (if (local.get $left) (then
        (local.set $error (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (br_if $again (i32.eqz (local.get $error))))))
    (call $exit (local.get $error))))
