;; SPDX-License-Identifier: Apache-2.0

;; Makes sets of headers of 100,000 bytes and gives none back: a command of WASI 0.2 that the runtime holds more and more bytes for.
(component
  (import "wasi:http/types@0.2.0" (instance $types
    (export "fields" (type $fields (sub resource)))
    (type $cases (variant (case "invalid-syntax") (case "forbidden") (case "immutable")))
    (export "header-error" (type $error (eq $cases)))
    (export "[constructor]fields" (func (result (own $fields))))
    (export "[method]fields.append" (func
      (param "self" (borrow $fields)) (param "name" string) (param "value" (list u8)) (result (result (error $error)))))))
  (core module $memory
    (memory (export "memory") 4)
    (data (i32.const 0) "x"))
  (core instance $memory (instantiate $memory))
  (alias core export $memory "memory" (core memory $linear))
  (core func $new (canon lower (func $types "[constructor]fields")))
  (core func $append (canon lower (func $types "[method]fields.append") (memory $linear)))
  (core module $main
    (import "memory" "memory" (memory 4))
    (import "http" "new" (func $new (result i32)))
    (import "http" "append" (func $append (param i32 i32 i32 i32 i32 i32)))
    (func (export "run") (result i32)
      ;; A value of letters.
      (memory.fill (i32.const 1000) (i32.const 120) (i32.const 100000))
      (loop $again
        (call $append (call $new) (i32.const 0) (i32.const 1) (i32.const 1000) (i32.const 100000) (i32.const 200000))
        ;; As long as it is well.
        (br_if $again (i32.eqz (i32.load8_u (i32.const 200000)))))
      (i32.const 1)))
  (core instance $main (instantiate $main
    (with "memory" (instance $memory))
    (with "http" (instance (export "new" (func $new)) (export "append" (func $append))))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))
