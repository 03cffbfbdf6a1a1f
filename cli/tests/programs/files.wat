;; SPDX-License-Identifier: Apache-2.0

;; Copies "input" of its directory to standard output and to "output"; ends with the errno of the step
;; that failed.
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 2)
  (data (i32.const 100) "input")
  (data (i32.const 200) "output")
  (func $check (param $errno i32)
    (if (local.get $errno) (then (call $exit (local.get $errno)))))
  (func (export "_start")
    (call $check (call $open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 5)
      (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 32)))
    (i32.store (i32.const 8) (i32.const 1024))
    (i32.store (i32.const 12) (i32.const 60000))
    (call $check (call $read (i32.load (i32.const 32)) (i32.const 8) (i32.const 1) (i32.const 0)))
    (i32.store (i32.const 12) (i32.load (i32.const 0)))
    (call $check (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 0)))
    ;; create and truncate; the right to write is 64
    (call $check (call $open (i32.const 3) (i32.const 0) (i32.const 200) (i32.const 6)
      (i32.const 9) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 32)))
    (call $check (call $write (i32.load (i32.const 32)) (i32.const 8) (i32.const 1) (i32.const 0)))))
