// SPDX-License-Identifier: Apache-2.0

//! Random numbers in every kind of Keep, through every function that returns them: they fill exactly the
//! requested bytes, and no two calls and no two Keeps return the same.

use std::collections::BTreeSet;
use std::path::Path;

use super::common::{backends, enarx};

/// Sizes of the pieces that `random.wat` asks for.
const PIECES: [usize; 3] = [256, 64 << 10, (1 << 20) + 4097];
/// The number of single bytes that it requests before.
const SINGLE: usize = 64;

fn run(backend: &str, before: &[&str], program: &str, after: &[&str]) -> Vec<u8> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/programs")
        .join(program);
    let output = enarx()
        .args(["run", "--quiet", "--backend", backend])
        .args(before)
        .arg(program)
        .args(after)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*error), (Some(0), ""), "{backend}");
    output.stdout
}

/// Each value of a byte is as frequent as the others, within ten standard deviations.
fn assert_even(bytes: &[u8]) {
    let mut counts = [0_i64; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    let mean = i64::try_from(bytes.len() / 256).unwrap();
    for (byte, count) in counts.into_iter().enumerate() {
        let difference = count - mean;
        assert!(
            difference * difference < 100 * mean,
            "{byte}: {count} times"
        );
    }
}

#[test]
fn preview_1_gives_random_bytes_of_every_size() {
    let mut seen = BTreeSet::new();
    for backend in backends() {
        for _ in 0..2 {
            let bytes = run(backend, &[], "random.wat", &[]);
            assert_eq!(bytes.len(), SINGLE + PIECES.iter().sum::<usize>());
            let (single, mut rest) = bytes.split_at(SINGLE);
            let mut pieces = vec![single];
            for size in PIECES {
                let (piece, others) = rest.split_at(size);
                pieces.push(piece);
                rest = others;
            }
            for piece in pieces {
                // Both ends of a piece are random, and differ from those of any other piece of any Keep.
                for part in [&piece[..32], &piece[piece.len() - 32..]] {
                    assert!(seen.insert(part.to_vec()), "{backend}: {part:x?} twice");
                }
            }
            assert_even(&bytes);
        }
    }
}

#[test]
fn components_get_random_bytes_of_every_size() {
    let mut seen = BTreeSet::new();
    for backend in backends() {
        for function in ["random-bytes", "insecure-random-bytes"] {
            for size in [0, 1, 256, 64 << 10, (1 << 20) + 4097] {
                let size: usize = size;
                let text = run(
                    backend,
                    &["--invoke", function],
                    "random-component.wat",
                    &[&size.to_string()],
                );
                let text = String::from_utf8(text).unwrap();
                let inner = text.trim().trim_matches(['(', ')']);
                let (list, count) = inner.rsplit_once(", ").unwrap();
                let shown = list.split(", ").filter(|part| *part != "[]").count();
                assert_eq!(shown, size.min(32), "{backend}, {function}: {text}");
                // One byte in 256 is zero.
                let zeros = size - count.parse::<usize>().unwrap();
                assert!(
                    zeros <= size / 256 * 2 + 16,
                    "{backend}, {function}: {text}"
                );
                assert!(
                    shown < 32 || seen.insert(list.to_owned()),
                    "{backend}, {function}: {text} twice"
                );
            }
        }
    }
}

#[test]
fn components_get_random_numbers() {
    let mut seen = BTreeSet::new();
    for backend in backends() {
        for _ in 0..2 {
            let text = run(
                backend,
                &["--invoke", "numbers"],
                "random-component.wat",
                &[],
            );
            let text = String::from_utf8(text).unwrap();
            let numbers = text.trim().trim_matches(['(', ')']).split(", ");
            let numbers: Vec<u64> = numbers.map(|number| number.parse().unwrap()).collect();
            assert_eq!(numbers.len(), 8, "{backend}: {text}");
            // Two numbers, two insecure ones, and twice the seed, which a program gets once.
            let (numbers, again) = numbers.split_at(6);
            assert_eq!(&numbers[4..], again, "{backend}: {text}");
            for number in numbers {
                assert!(seen.insert(*number), "{backend}: {number} twice");
            }
        }
    }
}
