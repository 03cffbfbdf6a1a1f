;; SPDX-License-Identifier: Apache-2.0

;; Copies standard input to standard output in pieces of 100,000 bytes, then says so on standard error.
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 4)
  (data (i32.const 100) "done\n")
  (func $check (param $errno i32)
    (if (local.get $errno) (then (call $exit (local.get $errno)))))
  (func $put (param $fd i32) (param $from i32) (param $length i32)
    (loop $more
      (i32.store (i32.const 8) (local.get $from))
      (i32.store (i32.const 12) (local.get $length))
      (call $check (call $write (local.get $fd) (i32.const 8) (i32.const 1) (i32.const 0)))
      (local.set $from (i32.add (local.get $from) (i32.load (i32.const 0))))
      (local.set $length (i32.sub (local.get $length) (i32.load (i32.const 0))))
      (br_if $more (local.get $length))))
  (func (export "_start")
    (block $end
      (loop $next
        (i32.store (i32.const 8) (i32.const 1024))
        (i32.store (i32.const 12) (i32.const 100000))
        (call $check (call $read (i32.const 0) (i32.const 8) (i32.const 1) (i32.const 0)))
        (br_if $end (i32.eqz (i32.load (i32.const 0))))
        (call $put (i32.const 1) (i32.const 1024) (i32.load (i32.const 0)))
        (br $next)))
    (call $put (i32.const 2) (i32.const 100) (i32.const 5))))
