// SPDX-License-Identifier: Apache-2.0

// Counts the words of standard input and prints the most frequent ones, as many as its argument
// says; its exit code is the number of different words, modulo 100.

const input: u8[] = [];
const piece = new ArrayBuffer(4096);
for (let length = process.stdin.read(piece); length > 0; length = process.stdin.read(piece)) {
  const bytes = Uint8Array.wrap(piece, 0, <i32>length);
  for (let i = 0; i < bytes.length; i++) input.push(bytes[i]);
}

// Bytes as text.
function text(bytes: u8[]): string {
  const buffer = new ArrayBuffer(bytes.length);
  for (let i = 0; i < bytes.length; i++) store<u8>(changetype<usize>(buffer) + i, bytes[i]);
  return String.UTF8.decode(buffer);
}

const counts = new Map<string, i32>();
const words = text(input).split(" ");
for (let i = 0; i < words.length; i++) {
  const word = words[i].trim().toLowerCase();
  if (word.length == 0) continue;
  counts.set(word, counts.has(word) ? counts.get(word) + 1 : 1);
}

const order = counts.keys();
order.sort((a, b) => {
  const difference = counts.get(b) - counts.get(a);
  return difference != 0 ? difference : a < b ? -1 : a > b ? 1 : 0;
});

const wanted = process.argv.length > 1 ? i32.parse(process.argv[1]) : 10;
for (let i = 0; i < min(wanted, order.length); i++) {
  console.log(counts.get(order[i]).toString() + " " + order[i]);
}
process.exit(order.length % 100);
