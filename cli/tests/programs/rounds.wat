;; SPDX-License-Identifier: Apache-2.0

;; For each byte of standard input copies the next three pieces of 4 KiB of "input" of its directory to standard output; ends
;; with the errno of the step that failed.
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "input")
  (func $check (param $errno i32)
    (if (local.get $errno) (then (call $exit (local.get $errno)))))
  (func $vector (param $at i32) (param $length i32)
    (i32.store (i32.const 8) (local.get $at))
    (i32.store (i32.const 12) (local.get $length)))
  (func (export "_start") (local $at i32)
    (call $check (call $open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 5)
      (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 32)))
    (loop $round
      (call $vector (i32.const 200) (i32.const 1))
      (call $check (call $read (i32.const 0) (i32.const 8) (i32.const 1) (i32.const 0)))
      (if (i32.eqz (i32.load (i32.const 0))) (then (return)))
      (local.set $at (i32.const 1024))
      (loop $piece
        (call $vector (local.get $at) (i32.const 4096))
        (call $check (call $read (i32.load (i32.const 32)) (i32.const 8) (i32.const 1) (i32.const 0)))
        (local.set $at (i32.add (local.get $at) (i32.load (i32.const 0))))
        (br_if $piece (i32.lt_u (local.get $at) (i32.const 13312))))
      (call $vector (i32.const 1024) (i32.const 12288))
      (call $check (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 0)))
      (br $round))))
