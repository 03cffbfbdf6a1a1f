;; SPDX-License-Identifier: Apache-2.0

;; Tries to change what was delivered with it as /etc/app.conf, prints the error number of each try, as a character from `0`
;; on, and then what the file has: opens it for writing, opens it to cut it, removes it, renames it, renames another file over it,
;; gives it another name, renames its directory; and last, makes a file beside it and removes that.
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file"
    (func $unlink (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_rename"
    (func $rename (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_link"
    (func $link (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 1000) "etc/app.conf")
  (data (i32.const 1100) "etc/new")
  (data (i32.const 1200) "etc")
  (data (i32.const 1300) "elsewhere")

  (func $print (param $from i32) (param $length i32)
    (i32.store (i32.const 16) (local.get $from))
    (i32.store (i32.const 20) (local.get $length))
    (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24))))

  (func $tell (param $error i32)
    (i32.store8 (i32.const 52) (i32.add (local.get $error) (i32.const 48)))
    (call $print (i32.const 52) (i32.const 1)))

  ;; With these flags and rights; what was opened is at 48.
  (func $opened (param $path i32) (param $length i32) (param $flags i32) (param $rights i64) (result i32)
    (call $open (i32.const 3) (i32.const 0) (local.get $path) (local.get $length)
      (local.get $flags) (local.get $rights) (i64.const 0) (i32.const 0) (i32.const 48)))

  (func (export "_start")
    ;; A file to rename over it: created, for reading and writing.
    (call $tell (call $opened (i32.const 1100) (i32.const 7) (i32.const 1) (i64.const 66)))
    (call $tell (call $opened (i32.const 1000) (i32.const 12) (i32.const 0) (i64.const 66)))
    (call $tell (call $opened (i32.const 1000) (i32.const 12) (i32.const 8) (i64.const 2)))
    (call $tell (call $unlink (i32.const 3) (i32.const 1000) (i32.const 12)))
    (call $tell (call $rename (i32.const 3) (i32.const 1000) (i32.const 12)
      (i32.const 3) (i32.const 1300) (i32.const 9)))
    (call $tell (call $rename (i32.const 3) (i32.const 1100) (i32.const 7)
      (i32.const 3) (i32.const 1000) (i32.const 12)))
    (call $tell (call $link (i32.const 3) (i32.const 0) (i32.const 1000) (i32.const 12)
      (i32.const 3) (i32.const 1300) (i32.const 9)))
    (call $tell (call $rename (i32.const 3) (i32.const 1200) (i32.const 3)
      (i32.const 3) (i32.const 1300) (i32.const 9)))
    (call $tell (call $unlink (i32.const 3) (i32.const 1100) (i32.const 7)))
    (call $tell (call $opened (i32.const 1000) (i32.const 12) (i32.const 0) (i64.const 2)))
    (i32.store (i32.const 32) (i32.const 65536))
    (i32.store (i32.const 36) (i32.const 65536))
    (drop (call $read (i32.load (i32.const 48)) (i32.const 32) (i32.const 1) (i32.const 40)))
    (call $print (i32.const 65536) (i32.load (i32.const 40)))))
