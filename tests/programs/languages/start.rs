// SPDX-License-Identifier: Apache-2.0

//! The start of a program in Rust: a hash map, whose keys are random, arguments, environment, clocks. See
//! start.c.

use std::collections::hash_map::RandomState;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::io::Read;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

fn yes(condition: bool) -> &'static str {
    if condition {
        "yes"
    } else {
        "no"
    }
}

fn main() -> std::io::Result<()> {
    let mut counts: HashMap<String, u32> = HashMap::new();
    for word in std::env::args().skip(1) {
        *counts.entry(word).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort();
    for (word, count) in counts {
        println!("{} {}", word, count);
    }
    println!("NAME {}", std::env::var("NAME").unwrap_or_else(|_| "-".into()));
    let mut input = String::new();
    std::io::stdin().read_to_string(&mut input)?;
    println!("lines {}", input.lines().count());

    std::fs::write("/data/note", "from Rust\n")?;
    print!("note {}", std::fs::read_to_string("/data/note")?);

    let before = Instant::now();
    sleep(Duration::from_millis(5));
    println!("slept {}", yes(before.elapsed() >= Duration::from_millis(5)));
    let date = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    println!("date {}", yes(SystemTime::now() > date));

    println!("random {:016x}", RandomState::new().build_hasher().finish());
    Ok(())
}
