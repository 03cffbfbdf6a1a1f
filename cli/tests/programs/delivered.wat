;; SPDX-License-Identifier: Apache-2.0

;; Prints its arguments, its variables, /etc/app.conf, /run/secrets/key and its standard input, in this order, and exits
;; with 7. A file that is not there is printed as its error number, as a character from `0` on.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 4)
  (data (i32.const 1000) "etc/app.conf")
  (data (i32.const 1100) "run/secrets/key")
  (data (i32.const 1200) "\n")

  (func $print (param $from i32) (param $length i32)
    (i32.store (i32.const 16) (local.get $from))
    (i32.store (i32.const 20) (local.get $length))
    (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24))))

  ;; Prints what a descriptor has, to its end.
  (func $copy (param $fd i32)
    (loop $more
      (i32.store (i32.const 32) (i32.const 65536))
      (i32.store (i32.const 36) (i32.const 65536))
      (br_if 1 (call $read (local.get $fd) (i32.const 32) (i32.const 1) (i32.const 40)))
      (br_if 1 (i32.eqz (i32.load (i32.const 40))))
      (call $print (i32.const 65536) (i32.load (i32.const 40)))
      (br $more)))

  (func $show (param $path i32) (param $length i32) (local $error i32)
    (local.set $error
      (call $open (i32.const 3) (i32.const 0) (local.get $path) (local.get $length)
        (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 48)))
    (if (local.get $error)
      (then
        (i32.store8 (i32.const 52) (i32.add (local.get $error) (i32.const 48)))
        (call $print (i32.const 52) (i32.const 1)))
      (else (call $copy (i32.load (i32.const 48)))))
    (call $print (i32.const 1200) (i32.const 1)))

  (func (export "_start")
    (drop (call $args_sizes (i32.const 0) (i32.const 4)))
    (drop (call $args (i32.const 2000) (i32.const 4000)))
    (call $print (i32.const 4000) (i32.load (i32.const 4)))
    (call $print (i32.const 1200) (i32.const 1))
    (drop (call $environ_sizes (i32.const 0) (i32.const 4)))
    (drop (call $environ (i32.const 2000) (i32.const 8000)))
    (call $print (i32.const 8000) (i32.load (i32.const 4)))
    (call $print (i32.const 1200) (i32.const 1))
    (call $show (i32.const 1000) (i32.const 12))
    (call $show (i32.const 1100) (i32.const 15))
    (call $copy (i32.const 0))
    (call $exit (i32.const 7))))
