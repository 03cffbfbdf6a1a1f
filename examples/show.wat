;; SPDX-License-Identifier: Apache-2.0

;; Prints the file of the first `--dir` directory that its argument names.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $arguments (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 2)

  ;; Ends with the error number as exit code, unless it is 0.
  (func $check (param $error i32)
    (if (local.get $error) (then (call $exit (local.get $error)))))

  ;; The length of the text at an address, which ends with a zero.
  (func $length (param $text i32) (result i32)
    (local $at i32)
    (local.set $at (local.get $text))
    (block $found
      (loop $next
        (br_if $found (i32.eqz (i32.load8_u (local.get $at))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next)))
    (i32.sub (local.get $at) (local.get $text)))

  ;; Address 0: the buffer of a call (address, length). 8: the number of bytes that it moved. 16: the number of
  ;; arguments, later the file. 20: the length of the arguments. 32: their addresses. 1024: arguments, then contents.
  (func (export "_start")
    (local $path i32)
    (call $check (call $sizes (i32.const 16) (i32.const 20)))
    ;; EINVAL without an argument, or where the arguments have no room.
    (if (i32.or (i32.ne (i32.load (i32.const 16)) (i32.const 2)) (i32.gt_u (i32.load (i32.const 20)) (i32.const 65536)))
      (then (call $exit (i32.const 28))))
    (call $check (call $arguments (i32.const 32) (i32.const 1024)))
    (local.set $path (i32.load (i32.const 36)))
    ;; Directory 3 is the first that the program was given; the right is fd_read.
    (call $check (call $open (i32.const 3) (i32.const 0) (local.get $path) (call $length (local.get $path))
      (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 16)))
    (block $end_of_file
      (loop $next
        (i32.store (i32.const 0) (i32.const 1024))
        (i32.store (i32.const 4) (i32.const 65536))
        (call $check (call $read (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8)))
        (br_if $end_of_file (i32.eqz (i32.load (i32.const 8))))
        (i32.store (i32.const 4) (i32.load (i32.const 8)))
        (loop $rest
          (call $check (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
          (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.load (i32.const 8))))
          (i32.store (i32.const 4) (i32.sub (i32.load (i32.const 4)) (i32.load (i32.const 8))))
          (br_if $rest (i32.load (i32.const 4))))
        (br $next)))))
