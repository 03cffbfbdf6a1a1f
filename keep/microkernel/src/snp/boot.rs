// SPDX-License-Identifier: Apache-2.0

//! The first steps of an SNP guest: is this the CPU that the launch was made for, and does the host
//! speak the protocol?

use core::mem::offset_of;

use enarx_snp::ghcb::msr::{INFO, Request, Response};
use enarx_snp::ghcb::{PROTOCOL_VERSION, PageOperation, features};
use enarx_snp::secrets::SecretsPage;
use zeroize::Zeroizing;

use enarx_boot::address::Gpa;
use enarx_boot::layout::PAGE;
use enarx_exits::{BootCheck, Reason};

use super::instructions::Instructions;
use super::message::{Channel, MessageKey};
use super::{ControlState, Messages, Snp, cpuid};
use crate::fatal::Fatal;
use crate::launch::{Launch, SnpLaunch};
use crate::platform::Platform;
use crate::random::{KEY, Random};

/// Bits of SEV_STATUS that say SEV and SEV-ES (AMD64 APM volume 2, section 15.34.10); SEV_FEATURES
/// lies above them.
const SEV_AND_ES: u64 = 3;

/// Oldest version of the secrets page (56860, secrets page format).
const MIN_SECRETS: u64 = 2;

/// The host features that a Keep needs.
const NEEDED: u64 = features::SNP | features::SNP_AP_CREATION;

/// The end of a Keep whose host refuses a request of the MSR protocol, or answers another.
fn refused(request: Request) -> Fatal {
    Fatal::new(Reason::Ghcb, request.encode() & INFO)
}

/// The answer to a request.
fn ask<I: Instructions>(instructions: &mut I, request: Request) -> Result<Response, Fatal> {
    Response::decode(instructions.msr_protocol(request.encode())).ok_or(refused(request))
}

/// Registers the GHCB at `ghcb` for this vCPU.
///
/// # Errors
/// [`Reason::Ghcb`] when the host refuses.
pub fn register_ghcb<I: Instructions>(instructions: &mut I, ghcb: Gpa) -> Result<(), Fatal> {
    let gfn = ghcb.get() / PAGE;
    let request = Request::RegisterGhcb { gfn };
    let response = ask(instructions, request)?;
    if response == (Response::RegisterGhcb { gfn }) {
        Ok(())
    } else {
        Err(refused(request))
    }
}

/// Checks the CPU's features against the launch, the host's protocol, and makes the page at `ghcb`
/// shared and this vCPU's GHCB.
///
/// # Errors
/// [`Reason::Boot`] for a launch without SEV-SNP, [`Reason::Features`], [`Reason::Ghcb`] or
/// [`Reason::PageState`].
pub fn negotiate<I: Instructions>(
    instructions: &mut I,
    launch: &Launch,
    ghcb: Gpa,
) -> Result<(), Fatal> {
    let snp = launch.snp.as_ref();
    let snp = snp.ok_or(Fatal::boot(BootCheck::SnpLaunch))?;
    let status = instructions.sev_status();
    if status != SEV_AND_ES | (snp.sev_features << 2) {
        return Err(Fatal::new(Reason::Features, status));
    }
    let Response::SevInfo { max, min, c_bit } = ask(instructions, Request::SevInfo)? else {
        return Err(refused(Request::SevInfo));
    };
    let versions = min..=max;
    if !versions.contains(&PROTOCOL_VERSION)
        || u32::from(c_bit) != launch.c_bit.mask().trailing_zeros()
    {
        return Err(refused(Request::SevInfo));
    }
    match ask(instructions, Request::HvFeatures)? {
        Response::HvFeatures { bitmap } if bitmap & NEEDED == NEEDED => {}
        _ => return Err(refused(Request::HvFeatures)),
    }
    let share = Request::PageState {
        gfn: ghcb.get() / PAGE,
        operation: PageOperation::Shared,
    };
    if ask(instructions, share)? != (Response::PageState { error: 0 }) {
        return Err(Fatal::new(Reason::PageState, ghcb.get()));
    }
    register_ghcb(instructions, ghcb)
}

/// Takes over the CPUID page and the secrets page, and wipes the latter: VMPCK 0 becomes `key`, and those of
/// the unused privilege levels go into the random numbers.
///
/// # Errors
/// [`Reason::Cpuid`] or [`Reason::Secrets`].
pub fn take_over<P: Platform>(
    platform: &mut P,
    launch: &SnpLaunch,
    key: &MessageKey,
    random: &mut Random,
) -> Result<Snp, Fatal> {
    let features = cpuid::features(platform, launch.cpuid)?;
    let secrets = launch.secrets;
    let keys = offset_of!(SecretsPage, vmpck) as u64;
    let version = platform.read(secrets.slot(0)) & 0xffff_ffff;
    if version >= MIN_SECRETS {
        key.set([0, 1, 2, 3].map(|word| platform.read(secrets.slot(keys / 8 + word))));
        let mut secret = Zeroizing::new([0; KEY]);
        platform.read_bytes(secrets.place(keys + KEY as u64), &mut *secret);
        random.add_secret(*secret);
    }
    platform.fill(secrets, 0);
    if !key.is_set() {
        return Err(Fatal::new(Reason::Secrets, version));
    }
    Ok(Snp {
        launch: *launch,
        control: ControlState::new(&features),
        channel: Channel::new(),
        messages: Messages::Free,
        started: 1,
        image_released: false,
    })
}
