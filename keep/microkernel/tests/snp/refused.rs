// SPDX-License-Identifier: Apache-2.0

//! A genuine host learns nothing about the system calls that its Keep refuses.

use enarx_microkernel::epoch::Epoch;
use enarx_microkernel::registers::Registers;
use enarx_microkernel::signal::{USER_CS, USER_SS};
use enarx_microkernel::syscall::{After, system_call};
use enarx_syscall as nr;

use crate::machine::{Locked, Machine};

#[test]
fn a_genuine_host_is_not_told_of_refused_calls() {
    let mut machine = Machine::new();
    let kernel = Locked::boot(&mut machine);
    let epoch = Epoch::new();
    machine.exits.clear();
    for number in [
        nr::READ,
        nr::IOCTL,
        nr::OPENAT,
        nr::NEWFSTATAT,
        2,
        21,
        439,
        600,
    ] {
        let mut registers = Registers {
            rax: number,
            rip: 0x40_1000,
            cs: USER_CS,
            ss: USER_SS,
            ..Registers::default()
        };
        // An exit through the port is a panic of this machine.
        let after = system_call(&kernel, &epoch, &mut machine, 0, &mut registers);
        assert_eq!(after, Ok(After::User));
        assert!(registers.rax.cast_signed() < 0, "{number}");
        assert!(machine.exits.is_empty(), "{number}");
    }
}
