// SPDX-License-Identifier: Apache-2.0

//! `--sim NAME=VALUE`: the properties of the simulated platform.

use std::time::Duration;

use enarx_simulator::{Error, KeyKind, Machine, Settings, Tcb};
use enarx_snp::bits::PlatformInfo;
use enarx_snp::product;
use enarx_vmm::platform::simulated::Simulated;

use crate::failure::{Exit, Failure};
use crate::options::SimulatedOption;
use crate::state;

/// Opens the keys of a simulated machine, or makes them.
///
/// # Errors
/// [`Exit::Output`] when its folder cannot be used.
pub fn open(machine: &Simulated) -> Result<Machine, Failure> {
    let opened = Machine::open(&machine.folder, machine.settings.clone());
    opened.map_err(|error| {
        let exit = match error {
            Error::Io { .. } | Error::NotFolder(_) | Error::Damaged(_) => Exit::Output,
            _ => Exit::Other,
        };
        Failure::of(exit, error.to_string())
    })
}

/// The machine that the options describe.
///
/// # Errors
/// When no folder for its keys is named and the user has none.
pub fn machine(options: &[SimulatedOption]) -> Result<Simulated, Failure> {
    let mut generation = &product::MILAN;
    let mut key = KeyKind::Vcek;
    let mut tcb = None;
    let mut debug = false;
    let mut smt = true;
    let mut revoked = false;
    let mut busy = Duration::ZERO..Duration::ZERO;
    let mut slow = 1;
    let mut folder = None;
    for option in options {
        match option {
            SimulatedOption::Generation(named) => generation = named,
            SimulatedOption::Key(kind) => key = *kind,
            SimulatedOption::Tcb(version) => tcb = Some(*version),
            SimulatedOption::Debug(on) => debug = *on,
            SimulatedOption::Smt(on) => smt = *on,
            SimulatedOption::Revoked(on) => revoked = *on,
            SimulatedOption::Busy(times) => busy = times.clone(),
            SimulatedOption::Slow(times) => slow = *times,
            SimulatedOption::State(path) => folder = Some(path.clone()),
        }
    }
    let mut settings = Settings::new(generation);
    settings.key = key;
    settings.revoked = revoked;
    if !smt {
        settings.platform.0 &= !PlatformInfo::SMT_EN.mask();
    }
    if let Some(tcb) = tcb {
        settings.tcb = Tcb::all(tcb);
    }
    let folder = match folder {
        Some(folder) => folder,
        // In a folder of everybody's, another user could make it first and know the keys.
        None => state::folder("simulated").ok_or_else(|| {
            Failure::usage(
                "there is no folder for the keys of the simulated platform: set HOME, or give --sim state=DIR",
            )
        })?,
    };
    state::check_private(&folder)?;
    Ok(Simulated {
        folder,
        settings,
        debug,
        busy,
        slow,
        attack: None,
    })
}
