// SPDX-License-Identifier: Apache-2.0

//! An executable's file without holes. Trusts the linker.
//!
//! A linker puts each segment at an offset that is congruent to its address modulo its alignment. Segments that begin on
//! 2 MiB boundaries, so that large pages map them, leave up to 2 MiB of zeros before the next one, which every launch of a
//! Keep would hash. Loaders ask for congruence modulo 4 KiB alone.

use object::elf::{self, FileHeader64};
use object::pod;
use object::read::elf::{FileHeader as _, ProgramHeader as _};
use object::{LittleEndian, U16, U64};

/// The alignment that Linux asks of a segment's offset, in bytes.
const PAGE: u64 = 4096;

type Error = &'static str;

/// The executable `file`, whose segments lie as close together as 4 KiB pages let them, and without section headers, which
/// only debuggers read. Addresses and contents of the segments are the same.
///
/// # Errors
/// A sentence for a file that is not a 64-bit executable, or has parts outside the file.
pub fn pack(file: &[u8]) -> Result<Vec<u8>, Error> {
    let endian = LittleEndian;
    let header = FileHeader64::<LittleEndian>::parse(file).map_err(|_| "not a 64-bit ELF file")?;
    let mut headers = header
        .program_headers(endian, file)
        .map_err(|_| "its program headers lie outside of the file")?
        .to_vec();
    let table = usize::try_from(header.e_phoff(endian)).map_err(|_| "it is too large")?;
    let mut segments = headers.clone();
    segments.retain(|header| header.p_type(endian) == elf::PT_LOAD);
    // A segment that begins with the file has the headers, which have a place of their own otherwise.
    let mut packed = match segments.first() {
        Some(first) if first.p_offset(endian) == 0 => Vec::new(),
        _ => vec![0; table + size_of_val(&*headers)],
    };
    // Of each segment the old place, and the new offset.
    let mut moves = Vec::new();
    for segment in &segments {
        let contents = segment
            .data(endian, file)
            .map_err(|()| "a segment lies outside of the file")?;
        let end = packed.len() as u64;
        let offset = end + segment.p_vaddr(endian).wrapping_sub(end) % PAGE;
        packed.resize(usize::try_from(offset).map_err(|_| "it is too large")?, 0);
        packed.extend_from_slice(contents);
        moves.push((segment.file_range(endian), offset));
    }
    // Headers of segments that are not loaded describe a part of one that is, such as thread-local data.
    for header in &mut headers {
        let (start, size) = header.file_range(endian);
        let moved = moves.iter().find_map(|&((old, length), new)| {
            let inside = start.checked_sub(old)?;
            (inside.checked_add(size)? <= length).then_some(new + inside)
        });
        let offset = moved
            .or((size == 0).then_some(0))
            .ok_or("a program header names bytes that are in no segment")?;
        header.p_offset = U64::new(endian, offset);
        if header.p_type(endian) == elf::PT_LOAD {
            header.p_align = U64::new(endian, PAGE);
        }
    }
    let mut header = *header;
    header.e_shoff = U64::new(endian, 0);
    header.e_shnum = U16::new(endian, 0);
    header.e_shstrndx = U16::new(endian, 0);
    for (at, bytes) in [
        (0, pod::bytes_of(&header)),
        (table, pod::bytes_of_slice(&headers)),
    ] {
        packed
            .get_mut(at..)
            .and_then(|rest| rest.get_mut(..bytes.len()))
            .ok_or("its headers lie outside of the first segment")?
            .copy_from_slice(bytes);
    }
    Ok(packed)
}
