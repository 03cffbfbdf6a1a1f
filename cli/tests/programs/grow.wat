;; SPDX-License-Identifier: Apache-2.0

;; Grows its memory by 64 MiB until that is refused or 2 GiB are had, and touches every page; ends with
;; the number of times.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $times i32) (local $at i32) (local $end i32)
    (block $refused
      (loop $more
        (local.set $at (i32.mul (memory.size) (i32.const 65536)))
        (br_if $refused (i32.eq (memory.grow (i32.const 1024)) (i32.const -1)))
        (local.set $end (i32.mul (memory.size) (i32.const 65536)))
        (loop $touch
          (i32.store8 (local.get $at) (i32.const 1))
          (local.set $at (i32.add (local.get $at) (i32.const 4096)))
          (br_if $touch (i32.lt_u (local.get $at) (local.get $end))))
        (local.set $times (i32.add (local.get $times) (i32.const 1)))
        (br_if $more (i32.lt_u (local.get $times) (i32.const 32)))))
    (call $exit (local.get $times))))
