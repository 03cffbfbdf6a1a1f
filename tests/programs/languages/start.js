// SPDX-License-Identifier: Apache-2.0

// The start of a program in JavaScript, for the QuickJS interpreter. See start.c.
import * as os from "qjs:os";
import * as std from "qjs:std";

const yes = (condition) => (condition ? "yes" : "no");
const counts = new Map();
for (const word of scriptArgs.slice(1)) counts.set(word, (counts.get(word) ?? 0) + 1);
for (const word of [...counts.keys()].sort()) print(word, counts.get(word));
print("NAME", std.getenv("NAME") ?? "-");
print("lines", std.in.readAsString().split("\n").length - 1);

const written = std.open("/data/note", "w");
written.puts("from JavaScript\n");
written.close();
std.out.puts("note " + std.loadFile("/data/note"));

const before = performance.now();
os.sleep(5);
print("slept", yes(performance.now() - before >= 5));
print("date", yes(Date.now() > 1700000000000));
const word = () => Math.floor(Math.random() * 2 ** 32).toString(16).padStart(8, "0");
print("random", word() + word());
