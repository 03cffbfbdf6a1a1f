#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the kernels beside their sources. The results are committed, so that the benchmark needs
# no WebAssembly compiler; run this after a change. Debian: clang lld wasi-libc libclang-rt-dev-wasm32.
set -eu
cd "$(dirname "$0")"
for source in *.c; do
    kernel=${source%.c}
    features=
    case $kernel in
    simd) features=-msimd128 ;;
    bulk) features=-mbulk-memory ;;
    esac
    # shellcheck disable=SC2086  # no features: no argument
    clang --target=wasm32-wasi -O2 -Wall -Wextra -Werror -fno-vectorize -fno-slp-vectorize \
        $features -Wl,--strip-all "$source" -o "$kernel.wasm"
done
