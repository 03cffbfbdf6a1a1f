// SPDX-License-Identifier: Apache-2.0

//! The words of a panic of the runtime. They go to the host, past the session, which may be what has failed.

use std::fmt::Write as _;

/// Has panics say where they are, by `say`, and nothing else: their own words may quote what the tenant has delivered, as those
/// about a text that is cut in the middle of a character do.
pub fn say_places_only(say: fn(&str)) {
    std::panic::set_hook(Box::new(move |panic| {
        let mut text = "enarx-runtime: a defect of the runtime".to_owned();
        if let Some(place) = panic.location() {
            // It fails for no text.
            let _ = write!(text, " at {place}");
        }
        text.push_str("; please report this\n");
        say(&text);
    }));
}
