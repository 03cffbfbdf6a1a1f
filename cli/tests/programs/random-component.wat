;; SPDX-License-Identifier: Apache-2.0

;; Every function of wasi:random for `--invoke`. Lists are shown by their last 32 bytes, and the number of
;; bytes that are not zero.
(component
  (import "wasi:random/random@0.2.0" (instance $random
    (export "get-random-bytes" (func (param "len" u64) (result (list u8))))
    (export "get-random-u64" (func (result u64)))))
  (import "wasi:random/insecure@0.2.0" (instance $insecure
    (export "get-insecure-random-bytes" (func (param "len" u64) (result (list u8))))
    (export "get-insecure-random-u64" (func (result u64)))))
  (import "wasi:random/insecure-seed@0.2.0" (instance $seed
    (export "insecure-seed" (func (result (tuple u64 u64))))))

  (core module $memory
    (memory (export "memory") 1)
    (global $free (mut i32) (i32.const 1024))
    ;; Gives each list a place of its own.
    (func (export "realloc") (param $old i32) (param $old-size i32) (param $align i32) (param $size i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.set $free (i32.add (local.get $at) (local.get $size)))
      (if (i32.gt_u (global.get $free) (i32.mul (memory.size) (i32.const 65536)))
        (then (drop (memory.grow (i32.add (i32.shr_u (local.get $size) (i32.const 16)) (i32.const 1))))))
      (local.get $at)))
  (core instance $memory (instantiate $memory))
  (alias core export $memory "memory" (core memory $linear))
  (alias core export $memory "realloc" (core func $realloc))

  (core func $bytes (canon lower (func $random "get-random-bytes") (memory $linear) (realloc $realloc)))
  (core func $number (canon lower (func $random "get-random-u64")))
  (core func $insecure-bytes
    (canon lower (func $insecure "get-insecure-random-bytes") (memory $linear) (realloc $realloc)))
  (core func $insecure-number (canon lower (func $insecure "get-insecure-random-u64")))
  (core func $insecure-seed (canon lower (func $seed "insecure-seed") (memory $linear)))

  (core module $main
    (import "memory" "memory" (memory 1))
    (import "wasi" "bytes" (func $bytes (param i64 i32)))
    (import "wasi" "insecure-bytes" (func $insecure-bytes (param i64 i32)))
    (import "wasi" "number" (func $number (result i64)))
    (import "wasi" "insecure-number" (func $insecure-number (result i64)))
    (import "wasi" "seed" (func $seed (param i32)))
    ;; Pointer and length of a list stand at 0; those of its last bytes, and the count, come to 16.
    (func $show (result i32)
      (local $at i32)
      (local $end i32)
      (local $count i64)
      (local.set $at (i32.load (i32.const 0)))
      (local.set $end (i32.add (local.get $at) (i32.load (i32.const 4))))
      (i32.store (i32.const 20) (i32.const 32))
      (if (i32.lt_u (i32.load (i32.const 4)) (i32.const 32))
        (then (i32.store (i32.const 20) (i32.load (i32.const 4)))))
      (i32.store (i32.const 16) (i32.sub (local.get $end) (i32.load (i32.const 20))))
      (block $done
        (loop $more
          (br_if $done (i32.eq (local.get $at) (local.get $end)))
          (local.set $count (i64.add (local.get $count)
            (i64.extend_i32_u (i32.ne (i32.load8_u (local.get $at)) (i32.const 0)))))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br $more)))
      (i64.store (i32.const 24) (local.get $count))
      (i32.const 16))
    (func (export "random-bytes") (param i64) (result i32)
      (call $bytes (local.get 0) (i32.const 0))
      (call $show))
    (func (export "insecure-random-bytes") (param i64) (result i32)
      (call $insecure-bytes (local.get 0) (i32.const 0))
      (call $show))
    (func (export "numbers") (result i32)
      (i64.store (i32.const 0) (call $number))
      (i64.store (i32.const 8) (call $number))
      (i64.store (i32.const 16) (call $insecure-number))
      (i64.store (i32.const 24) (call $insecure-number))
      (call $seed (i32.const 32))
      (call $seed (i32.const 48))
      (i32.const 0)))
  (core instance $main (instantiate $main
    (with "memory" (instance $memory))
    (with "wasi" (instance
      (export "bytes" (func $bytes))
      (export "insecure-bytes" (func $insecure-bytes))
      (export "number" (func $number))
      (export "insecure-number" (func $insecure-number))
      (export "seed" (func $insecure-seed))))))

  (func (export "random-bytes") (param "len" u64) (result (tuple (list u8) u64))
    (canon lift (core func $main "random-bytes") (memory $linear)))
  (func (export "insecure-random-bytes") (param "len" u64) (result (tuple (list u8) u64))
    (canon lift (core func $main "insecure-random-bytes") (memory $linear)))
  (func (export "numbers") (result (tuple u64 u64 u64 u64 u64 u64 u64 u64))
    (canon lift (core func $main "numbers") (memory $linear))))
