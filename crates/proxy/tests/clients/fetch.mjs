// Node's fetch, which is undici's.

import { body, pieces, run } from "./plan.mjs";

await run(async (method, url, headers, kind) => {
  let sent = body(kind);
  if (kind === "chunked") sent = ReadableStream.from(pieces(sent));
  const signal = AbortSignal.timeout(20_000);
  const answer = await fetch(url, { method, headers, body: sent, duplex: "half", signal });
  await answer.arrayBuffer();
  return answer.status;
});
