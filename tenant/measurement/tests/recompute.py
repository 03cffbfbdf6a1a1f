#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints the launch digest of a dumped page list, computed from AMD's definition alone (SEV Secure Nested Paging
Firmware ABI Specification, 56860, section 8.17.2 and table 67). Shares no code with the tenant's Rust.

The dump is a row of records: page type (1 byte), guest physical address (8 bytes, little-endian), 4096 bytes."""

import hashlib
import struct
import sys

NORMAL, VMSA, ZERO, UNMEASURED, SECRETS, CPUID = range(1, 7)

digest = bytes(48)
with open(sys.argv[1], "rb") as dump:
    while record := dump.read(9 + 4096):
        kind, gpa = struct.unpack_from("<BQ", record)
        page = record[9:]
        assert kind in range(1, 7) and len(page) == 4096
        contents = hashlib.sha384(page).digest() if kind in (NORMAL, VMSA) else bytes(48)
        # DIGEST_CUR, CONTENTS, LENGTH, PAGE_TYPE, IMI_PAGE, VMPL3_PERMS, VMPL2_PERMS, VMPL1_PERMS, reserved, GPA
        info = digest + contents + struct.pack("<HBBBBBBQ", 0x70, kind, 0, 0, 0, 0, 0, gpa)
        assert len(info) == 0x70
        digest = hashlib.sha384(info).digest()
print(digest.hex())
