// SPDX-License-Identifier: Apache-2.0

//! The loadable segments of a static ELF executable.

use std::ops::Range;

use object::elf;
use object::read::elf::{FileHeader, ProgramHeader};

/// A program as far as a launch needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Address of the first instruction.
    pub entry: u64,
    /// Segments in ascending order of address.
    pub segments: Vec<Segment>,
    /// Address of the program headers in memory, their size and number; `None` where no segment holds
    /// them.
    pub headers: Option<(u64, u64, u64)>,
}

/// A part of a program with one set of rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Virtual address, any alignment.
    pub address: u64,
    /// Size in memory, in bytes; bytes beyond the file's are zero.
    pub size: u64,
    /// Bytes of the file.
    pub file: Range<usize>,
    /// Writable.
    pub write: bool,
    /// Executable.
    pub execute: bool,
}

/// Why an executable cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// Not ELF, or broken.
    #[error("the image is not a readable ELF file: {0}")]
    Malformed(#[from] object::read::Error),
    /// Not static, not 64-bit x86, or with overlapping segments.
    #[error("the image is not a static x86-64 executable: {0}")]
    Unsupported(&'static str),
}

/// Reads the segments of `image`.
///
/// # Errors
/// [`ElfError`] for anything but a static x86-64 executable with ordered segments.
pub fn parse(image: &[u8]) -> Result<Program, ElfError> {
    let header = elf::FileHeader64::<object::LittleEndian>::parse(image)?;
    let endian = header.endian()?;
    if header.e_type(endian) != elf::ET_EXEC || header.e_machine(endian) != elf::EM_X86_64 {
        return Err(ElfError::Unsupported("not ET_EXEC for x86-64"));
    }
    let mut segments: Vec<Segment> = Vec::new();
    let headers = header.program_headers(endian, image)?;
    for program in headers {
        match program.p_type(endian) {
            elf::PT_INTERP => return Err(ElfError::Unsupported("needs an interpreter")),
            elf::PT_LOAD => {}
            _ => continue,
        }
        let (offset, length) = program.file_range(endian);
        let file = usize::try_from(offset)
            .ok()
            .zip(usize::try_from(length).ok())
            .and_then(|(offset, length)| Some(offset..offset.checked_add(length)?))
            .filter(|file| file.end <= image.len())
            .ok_or(ElfError::Unsupported("a segment lies outside of the file"))?;
        let (address, size) = (program.p_vaddr(endian), program.p_memsz(endian));
        let flags = program.p_flags(endian);
        if size < length || address.checked_add(size).is_none() {
            return Err(ElfError::Unsupported("a segment has an impossible size"));
        }
        if segments
            .last()
            .is_some_and(|last| last.address + last.size > address)
        {
            return Err(ElfError::Unsupported(
                "segments overlap or are out of order",
            ));
        }
        segments.push(Segment {
            address,
            size,
            file,
            write: flags & elf::PF_W != 0,
            execute: flags & elf::PF_X != 0,
        });
    }
    let first = segments
        .first()
        .ok_or(ElfError::Unsupported("nothing to load"))?;
    let table = header
        .e_phoff(endian)
        .checked_sub(first.file.start as u64)
        .and_then(|distance| first.address.checked_add(distance));
    Ok(Program {
        entry: header.e_entry(endian),
        headers: table.map(|table| {
            let size = u64::from(header.e_phentsize(endian));
            (table, size, headers.len() as u64)
        }),
        segments,
    })
}
