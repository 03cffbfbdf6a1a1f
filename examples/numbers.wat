;; SPDX-License-Identifier: Apache-2.0

;; A plain exported function: `enarx run --invoke add examples/numbers.wat 2 3` prints 5.
(module
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))
