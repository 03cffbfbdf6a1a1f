// SPDX-License-Identifier: Apache-2.0

// The work of a script: closures, generators, classes, regular expressions, big integers, Unicode,
// JSON, typed arrays, promises, exceptions; and files by the interpreter's own module.
import * as std from "qjs:std";
import * as os from "qjs:os";

function* primes() {
  const found = [];
  for (let n = 2; ; n++) if (found.every((p) => n % p)) found.push(n), yield n;
}
const some = [];
for (const p of primes()) {
  if (some.push(p) === 1000) break;
}
console.log("primes", some.at(-1), some.reduce((a, b) => a + b));

class Tree {
  #children = new Map();
  insert(word) {
    let node = this;
    for (const letter of word) {
      if (!node.#children.has(letter)) node.#children.set(letter, new Tree());
      node = node.#children.get(letter);
    }
    return this;
  }
  get size() {
    return [...this.#children.values()].reduce((sum, child) => sum + child.size, 1);
  }
}
console.log("tree", ["keep", "keel", "kelp", "κήπος"].reduce((tree, word) => tree.insert(word), new Tree()).size);

let factorial = 1n;
for (let n = 2n; n <= 200n; n++) factorial *= n;
console.log("factorial", factorial.toString().length, factorial % 1000000007n);

const text = std.loadFile("/data/input.txt");
const words = text.match(/\p{L}+/gu);
const counts = Object.groupBy(words, (word) => word.toLowerCase());
const frequent = Object.entries(counts).map(([word, all]) => [word, all.length]);
frequent.sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
console.log(JSON.stringify(frequent.slice(0, 5)), text.normalize("NFD").length, text.toUpperCase().length);

const wave = Float64Array.from({ length: 1000 }, (_, i) => Math.sin(i) * Math.sqrt(i));
console.log("wave", wave.reduce((a, b) => a + b), Math.max(...wave).toFixed(12));
console.log(new Date(86400000 * 365.25).toISOString(), [3, 1, 2].toSorted(), structuredCloneless({ a: [1, { b: null }] }));
function structuredCloneless(value) {
  return JSON.stringify(JSON.parse(JSON.stringify(value)), null, 1);
}

const file = std.open("/data/output.json", "w");
file.puts(JSON.stringify({ frequent, primes: some }));
file.close();
console.log("files", os.readdir("/data")[0].filter((name) => !name.startsWith(".")).sort().join(" "));

try {
  null.property;
} catch (error) {
  console.log(error instanceof TypeError, error.message);
}
await Promise.all([1, 2, 3].map(async (n) => n * n)).then((squares) => console.log(squares.join()));
std.err.puts("the end is an exception\n");
throw new RangeError("as meant");
