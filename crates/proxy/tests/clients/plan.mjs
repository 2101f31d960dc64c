// What the Node clients share: the calls that they make, a line each, and their bodies.

import { readFileSync } from "node:fs";

// A JSON object of so many bytes, or one in chunks.
export function body(kind) {
  const length = kind === "chunked" ? 100_000 : Number(kind.replace("asks ", ""));
  return Buffer.from("{}" + " ".repeat(length - 2));
}

export function* pieces(whole) {
  for (let start = 0; start < whole.length; start += 10_000) {
    yield whole.subarray(start, start + 10_000);
  }
}

function headers(text) {
  return text === "-" ? [] : text.split("|").map((line) => line.split(": "));
}

// Asks by `ask(method, url, headers, kind)`, and prints both statuses of each line.
export async function run(ask) {
  for (const line of readFileSync(0, "utf8").trimEnd().split("\n")) {
    const [name, method, url, given, kind, nextUrl, nextGiven] = line.split("\t");
    try {
      const early = await ask(method, url, headers(given), kind);
      console.log([name, early, await ask("POST", nextUrl, headers(nextGiven), "2")].join("\t"));
    } catch (error) {
      console.log(`${name}\t${error} ${error.cause ?? ""}`);
    }
  }
}
