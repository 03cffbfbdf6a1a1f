// SPDX-License-Identifier: Apache-2.0

//! The format of a precompiled application: a header, followed by native code in Wasmtime's format.
//!
//! The header has the facts that the runtime otherwise finds in the WebAssembly before it creates an engine, and
//! digests that detect a truncated or damaged file. They are no protection: whoever makes such a file has its native
//! code executed.

use sha2::{Digest, Sha256};

/// First bytes of a precompiled application, in the style of WebAssembly's magic number.
pub const MAGIC: [u8; 8] = *b"\0enarxc\0";
/// The version of the form.
const FORMAT: u32 = 1;
/// Bytes of the head: magic, version, flags, two sizes, two digests.
pub const HEAD: usize = 96;
/// Bytes of the head before the digest of the file.
const DIGESTED: usize = HEAD - 32;

/// It was a component.
const COMPONENT: u32 = 1;
/// Its data segments are joined.
const JOINED: u32 = 2;
/// Its requests take turns.
const TURNS: u32 = 4;
/// It has asynchronous functions, streams or futures.
const CONCURRENT: u32 = 8;
/// All of these.
const FLAGS: u32 = COMPONENT | JOINED | TURNS | CONCURRENT;

/// Upper bound of the compiler's memory for each byte that it compiles; 18 to 30 bytes were seen with large
/// programs.
pub const MEMORY_FOR_BYTE: u64 = 32;

/// The CPU that code is compiled for so that every machine that runs Keeps can execute it: one with RDRAND and XSAVE, which a
/// Keep needs, and with whatever came before them.
pub const BASELINE: &str = "baseline";
/// The CPUs that code can be compiled for, by Cranelift's names: levels of x86-64, and those with SEV-SNP.
pub const CPUS: [&str; 6] = [
    BASELINE,
    "x86-64-v2",
    "x86-64-v3",
    "x86-64-v4",
    "znver3",
    "znver4",
];

/// The facts about an application that its engine depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of its own in the head, and any of them go together"
)]
pub struct Facts {
    /// It is a component, and no core module.
    pub component: bool,
    /// One of its modules has many data segments, which are joined to an image.
    pub joined: bool,
    /// Instructions are counted, so that the requests of a server take turns.
    pub turns: bool,
    /// It is a component with asynchronous functions, streams or futures.
    pub concurrent: bool,
    /// Bytes that its largest memory starts with.
    pub memory: u64,
    /// Elements that its largest table starts with.
    pub table: u64,
}

/// A precompiled application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Precompiled<'a> {
    /// The facts.
    pub facts: Facts,
    /// SHA-256 of the WebAssembly that it was compiled from, as the compiler claims.
    pub source: [u8; 32],
    /// The native code, in Wasmtime's form.
    pub code: &'a [u8],
}

/// Why a file is no precompiled application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrecompiledError {
    /// It has this version of the form, which is another one.
    #[error("it was compiled by another version of Enarx: compile it again with `enarx compile`")]
    Format(u32),
    /// Its bytes are not those that the compiler wrote.
    #[error("it is truncated or damaged: compile it again with `enarx compile`")]
    Damaged,
}

/// True for what begins as a precompiled application.
pub fn is_precompiled(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

impl<'a> Precompiled<'a> {
    /// The parts of a file with this code, compiled from `source`.
    pub fn new(facts: Facts, source: &[u8], code: &'a [u8]) -> Self {
        Self {
            facts,
            source: Sha256::digest(source).into(),
            code,
        }
    }

    /// The head of a file of these parts; the code follows it.
    pub fn head(&self) -> [u8; HEAD] {
        let facts = &self.facts;
        let flag = |on: bool, flag: u32| if on { flag } else { 0 };
        let flags = flag(facts.component, COMPONENT)
            | flag(facts.joined, JOINED)
            | flag(facts.turns, TURNS)
            | flag(facts.concurrent, CONCURRENT);
        let parts: [&[u8]; 6] = [
            &MAGIC,
            &FORMAT.to_le_bytes(),
            &flags.to_le_bytes(),
            &facts.memory.to_le_bytes(),
            &facts.table.to_le_bytes(),
            &self.source,
        ];
        let mut head = [0; HEAD];
        let digest = parts
            .iter()
            .fold(Sha256::new(), Sha256::chain_update)
            .chain_update(self.code)
            .finalize();
        let bytes = parts.into_iter().flatten().chain(&digest);
        for (place, byte) in head.iter_mut().zip(bytes) {
            *place = *byte;
        }
        head
    }

    /// Takes a file apart.
    ///
    /// # Errors
    /// [`PrecompiledError`], unless the file is a head of [`Self::head`] and its code.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, PrecompiledError> {
        let (head, code) = bytes
            .split_first_chunk::<HEAD>()
            .ok_or(PrecompiledError::Damaged)?;
        let mut rest = head.as_slice();
        let magic: [u8; 8] = taken(&mut rest)?;
        if magic != MAGIC {
            return Err(PrecompiledError::Damaged);
        }
        let format = u32::from_le_bytes(taken(&mut rest)?);
        if format != FORMAT {
            return Err(PrecompiledError::Format(format));
        }
        let flags = u32::from_le_bytes(taken(&mut rest)?);
        // No compiler of this version writes others.
        if flags & !FLAGS != 0 {
            return Err(PrecompiledError::Damaged);
        }
        let facts = Facts {
            component: flags & COMPONENT != 0,
            joined: flags & JOINED != 0,
            turns: flags & TURNS != 0,
            concurrent: flags & CONCURRENT != 0,
            memory: u64::from_le_bytes(taken(&mut rest)?),
            table: u64::from_le_bytes(taken(&mut rest)?),
        };
        let source = taken(&mut rest)?;
        let (known, digest) = head.split_at(DIGESTED);
        if Sha256::new()
            .chain_update(known)
            .chain_update(code)
            .finalize()
            .as_slice()
            != digest
        {
            return Err(PrecompiledError::Damaged);
        }
        Ok(Self {
            facts,
            source,
            code,
        })
    }
}

/// Takes the first bytes of the rest.
fn taken<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], PrecompiledError> {
    let (first, behind) = rest
        .split_first_chunk::<N>()
        .ok_or(PrecompiledError::Damaged)?;
    *rest = behind;
    Ok(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: Facts = Facts {
        component: true,
        joined: false,
        turns: true,
        concurrent: true,
        memory: 3 << 16,
        table: 99,
    };

    /// The flags of these facts.
    const FACTS_FLAGS: u32 = COMPONENT | TURNS | CONCURRENT;

    const SOURCE: &[u8] = b"\0asm";

    fn file() -> Vec<u8> {
        let parts = Precompiled::new(FACTS, SOURCE, b"native code");
        [&parts.head(), parts.code].concat()
    }

    #[test]
    fn written_facts_are_read_back() {
        let file = file();
        assert!(is_precompiled(&file));
        let read = Precompiled::decode(&file).unwrap();
        assert_eq!(
            read,
            Precompiled {
                facts: FACTS,
                source: Sha256::digest(SOURCE).into(),
                code: b"native code",
            }
        );
    }

    #[test]
    fn unknown_facts_are_refused() {
        let mut file = file();
        for flag in 4..32 {
            let flags = FACTS_FLAGS | 1 << flag;
            file[12..16].copy_from_slice(&u32::to_le_bytes(flags));
            let digest = Sha256::new()
                .chain_update(&file[..DIGESTED])
                .chain_update(&file[HEAD..])
                .finalize();
            file[DIGESTED..HEAD].copy_from_slice(&digest);
            let read = Precompiled::decode(&file);
            assert_eq!(read, Err(PrecompiledError::Damaged), "{flag}");
        }
    }

    #[test]
    fn every_altered_bit_and_every_cut_is_detected() {
        let whole = file();
        for length in 0..whole.len() {
            assert!(Precompiled::decode(&whole[..length]).is_err(), "{length}");
        }
        for bit in 0..whole.len() * 8 {
            let mut altered = whole.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            let format = (64..96).contains(&bit);
            match Precompiled::decode(&altered) {
                Err(PrecompiledError::Format(_)) => assert!(format, "{bit}"),
                Err(PrecompiledError::Damaged) => assert!(!format, "{bit}"),
                Ok(_) => panic!("bit {bit} may be altered"),
            }
        }
        let longer = [&whole[..], &[0]].concat();
        assert_eq!(Precompiled::decode(&longer), Err(PrecompiledError::Damaged));
    }
}
