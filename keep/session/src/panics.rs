// SPDX-License-Identifier: Apache-2.0

//! The message of a panic of the runtime. It goes to the host, without the session, which may have failed
//! itself.

use std::fmt::Write as _;

/// Makes panics report only their location, with `say`: their messages may quote delivered data, such as a
/// text that is cut in the middle of a character.
pub fn report_panic_locations_only(say: fn(&str)) {
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
