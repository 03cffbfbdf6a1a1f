;; SPDX-License-Identifier: Apache-2.0

;; Writes 96 KiB to standard output, which is more than a pipe holds, and flushes: a command of WASI 0.2 that fails if the flush
;; took less than a second.
(component
  (import "wasi:io/error@0.2.0" (instance $error (export "error" (type (sub resource)))))
  (alias export $error "error" (type $failure))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (alias outer 1 $failure (type $outer))
    (export "error" (type $failure (eq $outer)))
    (type $reason (variant (case "last-operation-failed" (own $failure)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $reason)))
    (export "output-stream" (type $stream (sub resource)))
    (export "[method]output-stream.check-write"
      (func (param "self" (borrow $stream)) (result (result u64 (error $stream-error)))))
    (export "[method]output-stream.write"
      (func (param "self" (borrow $stream)) (param "contents" (list u8)) (result (result (error $stream-error)))))
    (export "[method]output-stream.blocking-flush"
      (func (param "self" (borrow $stream)) (result (result (error $stream-error)))))))
  (alias export $streams "output-stream" (type $stream))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (alias outer 1 $stream (type $outer))
    (export "output-stream" (type $stream (eq $outer)))
    (export "get-stdout" (func (result (own $stream))))))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock (export "now" (func (result u64)))))

  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (alias core export $memory "memory" (core memory $linear))
  (core func $get (canon lower (func $stdout "get-stdout")))
  (core func $check (canon lower (func $streams "[method]output-stream.check-write") (memory $linear)))
  (core func $write (canon lower (func $streams "[method]output-stream.write") (memory $linear)))
  (core func $flush (canon lower (func $streams "[method]output-stream.blocking-flush") (memory $linear)))
  (core func $now (canon lower (func $clock "now")))

  (core module $main
    (import "memory" "memory" (memory 1))
    (import "wasi" "get" (func $get (result i32)))
    (import "wasi" "check" (func $check (param i32 i32)))
    (import "wasi" "write" (func $write (param i32 i32 i32 i32)))
    (import "wasi" "flush" (func $flush (param i32 i32)))
    (import "wasi" "now" (func $now (result i64)))
    ;; Results come to 0: the first byte says that it is an error.
    (func $must (if (i32.load8_u (i32.const 0)) (then (unreachable))))
    (func (export "run") (result i32)
      (local $out i32)
      (local $pieces i32)
      (local $before i64)
      (local.set $out (call $get))
      (loop $more
        (call $check (local.get $out) (i32.const 0))
        (call $must)
        (if (i64.lt_u (i64.load (i32.const 8)) (i64.const 4096)) (then (unreachable)))
        (call $write (local.get $out) (i32.const 4096) (i32.const 4096) (i32.const 0))
        (call $must)
        (local.set $pieces (i32.add (local.get $pieces) (i32.const 1)))
        (br_if $more (i32.lt_u (local.get $pieces) (i32.const 24))))
      (local.set $before (call $now))
      (call $flush (local.get $out) (i32.const 0))
      (call $must)
      (i64.lt_u (i64.sub (call $now) (local.get $before)) (i64.const 1000000000))))
  (core instance $main (instantiate $main
    (with "memory" (instance $memory))
    (with "wasi" (instance
      (export "get" (func $get))
      (export "check" (func $check))
      (export "write" (func $write))
      (export "flush" (func $flush))
      (export "now" (func $now))))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))
