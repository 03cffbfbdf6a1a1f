#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the kernels beside their sources. The results are committed, so that the benchmark needs
# no WebAssembly compiler; run this after a change. Debian: clang lld wasi-libc libclang-rt-dev-wasm32.
# The component, network.wasm, takes the bindings and the tool of the test programs: tests/programs/build comes first.
set -eu
cd "$(dirname "$0")"
programs=../../target/programs
for source in *.c; do
    kernel=${source%.c}
    features=
    case $kernel in
    network) continue ;;
    simd) features=-msimd128 ;;
    bulk) features=-mbulk-memory ;;
    esac
    # shellcheck disable=SC2086  # no features: no argument
    clang --target=wasm32-wasi -O2 -Wall -Wextra -Werror -fno-vectorize -fno-slp-vectorize \
        $features -Wl,--strip-all "$source" -o "$kernel.wasm"
done
made=$(mktemp -d)
trap 'rm -r "$made"' EXIT
clang --target=wasm32-wasi -O2 -Wall -Wextra -Werror -c -I"$programs/bindings" network.c -o "$made/network.o"
# Generated code is not ours to warn about.
clang --target=wasm32-wasi -O2 -mexec-model=reactor -w -Wl,--strip-debug "$made/network.o" \
    "$programs/bindings/command.c" "$programs/bindings/command_component_type.o" -o "$made/module.wasm"
cargo run --quiet --locked --manifest-path ../../tests/programs/Cargo.toml --target-dir "$programs/cargo" -- \
    encode "$made/module.wasm" network.wasm
