// SPDX-License-Identifier: Apache-2.0

//! Guest messages of several vCPUs, one after the other, without the kernel's lock.

use enarx_exits::ExitFunction;

use super::message::{Channel, MessageError, MessageKey};
use crate::kernel::{Guarded, Kernel};
use crate::linux::Errno;
use crate::platform::Platform;

/// Time that a vCPU sleeps while another one's message is in progress, in nanoseconds.
const TURN: u64 = 10_000_000;

/// Sends the firmware a message, without holding the kernel's lock, after those of other vCPUs. After an answer
/// that the host changed or withheld, never again.
///
/// # Errors
/// [`Errno::NoSys`] without SNP, [`Errno::Inval`] if the firmware refused, [`Errno::Busy`] if the host did not
/// carry the message in time, [`Errno::Io`] if it changed the message or the answer.
pub fn ask<P: Platform, K: Guarded>(
    kernel: &K,
    platform: &mut P,
    message: impl FnOnce(&mut Channel, &MessageKey, &mut P) -> Result<(), MessageError>,
) -> Result<(), Errno> {
    let mut channel = take(kernel, platform)?;
    let result = message(&mut channel, kernel.key(), platform);
    let broken = result == Err(MessageError::Broken);
    if broken {
        kernel.key().wipe();
    }
    kernel.with(|k| k.give_channel((!broken).then_some(&channel)));
    platform.wipe_stack();
    match result {
        Ok(()) => Ok(()),
        Err(MessageError::Refused(_)) => Err(Errno::Inval),
        Err(MessageError::Busy) => Err(Errno::Busy),
        Err(MessageError::Broken) => Err(Errno::Io),
    }
}

/// Sends the firmware no message any more: the key is wiped, after the messages of other vCPUs. Where none can be sent, none
/// could be before.
pub fn close<P: Platform, K: Guarded>(kernel: &K, platform: &mut P) {
    if take(kernel, platform).is_ok() {
        kernel.key().wipe();
        kernel.with(|k| k.give_channel(None));
    }
}

/// Takes the channel, in turn.
fn take<P: Platform, K: Guarded>(kernel: &K, platform: &mut P) -> Result<Channel, Errno> {
    loop {
        if let Some(channel) = kernel.with(Kernel::take_channel)? {
            return Ok(channel);
        }
        if platform.ended() {
            return Err(Errno::Io);
        }
        platform.exit(ExitFunction::Park, &[TURN]);
    }
}
