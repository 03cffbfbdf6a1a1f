;; SPDX-License-Identifier: Apache-2.0

;; Asks for random bytes in pieces of several sizes and writes them to standard output: 64 × 1 byte,
;; 0 bytes, 256, 64 KiB, 1 MiB + 4097 bytes. Ends with the error number of a call that fails, with 100
;; when a byte beside the piece was changed.
(module
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 32)
  (global $piece i32 (i32.const 1025))

  (func $check (param $errno i32)
    (if (local.get $errno) (then (call $exit (local.get $errno)))))

  (func $ask (param $size i32)
    (local $end i32)
    (local $written i32)
    (local.set $end (i32.add (global.get $piece) (local.get $size)))
    (i32.store8 (i32.const 1024) (i32.const 0xaa))
    (i32.store8 (local.get $end) (i32.const 0x55))
    (call $check (call $random_get (global.get $piece) (local.get $size)))
    (if (i32.or
          (i32.ne (i32.load8_u (i32.const 1024)) (i32.const 0xaa))
          (i32.ne (i32.load8_u (local.get $end)) (i32.const 0x55)))
      (then (call $exit (i32.const 100))))
    (block $all
      (loop $more
        (br_if $all (i32.ge_u (local.get $written) (local.get $size)))
        (i32.store (i32.const 0) (i32.add (global.get $piece) (local.get $written)))
        (i32.store (i32.const 4) (i32.sub (local.get $size) (local.get $written)))
        (call $check (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (local.set $written (i32.add (local.get $written) (i32.load (i32.const 8))))
        (br $more))))

  (func (export "_start")
    (local $left i32)
    (local.set $left (i32.const 64))
    (loop $bytes
      (call $ask (i32.const 1))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $bytes (local.get $left)))
    (call $ask (i32.const 0))
    (call $ask (i32.const 256))
    (call $ask (i32.const 65536))
    (call $ask (i32.const 1052673))))
