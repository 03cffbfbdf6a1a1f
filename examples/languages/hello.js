// SPDX-License-Identifier: Apache-2.0

// Greets its first argument, or the world. This engine has neither `console` nor `TextEncoder`:
// output is WASI's, and UTF-8 is made by hand.
import { getArguments } from "wasi:cli/environment@0.2.12";
import { getStdout } from "wasi:cli/stdout@0.2.12";

const utf8 = (text) => Uint8Array.from(unescape(encodeURIComponent(text)), (byte) => byte.charCodeAt(0));

export const run = {
    run() {
        const [, name = "world"] = getArguments();
        getStdout().blockingWriteAndFlush(utf8(`Hello, ${name}, from JavaScript!\n`));
    },
};
