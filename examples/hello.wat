;; SPDX-License-Identifier: Apache-2.0

;; Prints "Hello, world!". Build with `wat2wasm hello.wat` or `wasm-tools parse hello.wat -o hello.wasm`.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  ;; One buffer: address 16, 14 bytes.
  (data (i32.const 0) "\10\00\00\00\0e\00\00\00")
  (data (i32.const 16) "Hello, world!\n")
  (func (export "_start")
    (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
    if
      (call $proc_exit (i32.const 1))
    end))
