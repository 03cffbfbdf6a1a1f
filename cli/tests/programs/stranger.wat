;; SPDX-License-Identifier: Apache-2.0

;; Needs what nobody has.
(module
  (import "nowhere" "nothing" (func $nothing))
  (memory (export "memory") 1)
  (func (export "_start") (call $nothing)))
