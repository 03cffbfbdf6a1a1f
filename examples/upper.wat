;; SPDX-License-Identifier: Apache-2.0

;; A filter: copies standard input to standard output, with the letters a to z as capitals.
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 2)

  ;; Ends with the error number as exit code, unless it is 0.
  (func $check (param $error i32)
    (if (local.get $error) (then (call $exit (local.get $error)))))

  ;; Address 0: the buffer of a call (address, length). Address 8: the number of bytes that it moved.
  (func $buffer (param $address i32) (param $length i32)
    (i32.store (i32.const 0) (local.get $address))
    (i32.store (i32.const 4) (local.get $length)))

  (func (export "_start")
    (local $end i32) (local $at i32) (local $byte i32)
    (block $end_of_input
      (loop $next
        (call $buffer (i32.const 1024) (i32.const 65536))
        (call $check (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
        (br_if $end_of_input (i32.eqz (i32.load (i32.const 8))))
        (local.set $end (i32.add (i32.const 1024) (i32.load (i32.const 8))))
        (local.set $at (i32.const 1024))
        (loop $letters
          (local.set $byte (i32.load8_u (local.get $at)))
          (if (i32.and (i32.ge_u (local.get $byte) (i32.const 97)) (i32.le_u (local.get $byte) (i32.const 122)))
            (then (i32.store8 (local.get $at) (i32.sub (local.get $byte) (i32.const 32)))))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br_if $letters (i32.lt_u (local.get $at) (local.get $end))))
        (local.set $at (i32.const 1024))
        (loop $rest
          (call $buffer (local.get $at) (i32.sub (local.get $end) (local.get $at)))
          (call $check (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
          (local.set $at (i32.add (local.get $at) (i32.load (i32.const 8))))
          (br_if $rest (i32.lt_u (local.get $at) (local.get $end))))
        (br $next)))))
