// SPDX-License-Identifier: Apache-2.0

// Makes a component of a program in JavaScript: node build.mjs PROGRAM WIT WORLD COMPONENT

import { readFileSync, writeFileSync } from "node:fs";
import { componentize } from "@bytecodealliance/componentize-js";

const [program, witPath, worldName, to] = process.argv.slice(2);
const { component } = await componentize(readFileSync(program, "utf8"), { witPath, worldName });
writeFileSync(to, component);
