;; SPDX-License-Identifier: Apache-2.0

;; Tries to open the path that standard input names; ends with the errno.
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store (i32.const 8) (i32.const 1024))
    (i32.store (i32.const 12) (i32.const 4096))
    (drop (call $read (i32.const 0) (i32.const 8) (i32.const 1) (i32.const 0)))
    (call $exit (call $open (i32.const 3) (i32.const 1) (i32.const 1024) (i32.load (i32.const 0))
      (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 32)))))
