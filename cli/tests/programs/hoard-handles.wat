;; SPDX-License-Identifier: Apache-2.0

;; Makes timers and gives none back: a command of WASI 0.2 that the runtime holds more and more handles for.
(component
  (import "wasi:io/poll@0.2.0" (instance $poll (export "pollable" (type (sub resource)))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
    (alias outer 1 $pollable (type $outer))
    (export "pollable" (type $own (eq $outer)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $own))))))
  (core func $subscribe (canon lower (func $clock "subscribe-duration")))
  (core module $main
    (import "clock" "subscribe-duration" (func $subscribe (param i64) (result i32)))
    (func (export "run") (result i32)
      (loop $again
        (drop (call $subscribe (i64.const 3600000000000)))
        (br $again))
      (unreachable)))
  (core instance $main (instantiate $main
    (with "clock" (instance (export "subscribe-duration" (func $subscribe))))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))
