// Node's http with an agent that keeps connections.

import { Agent, request } from "node:http";
import { body, pieces, run } from "./plan.mjs";

const agent = new Agent({ keepAlive: true, maxSockets: 1 });

function ask(method, url, headers, kind) {
  return new Promise((resolve, reject) => {
    const whole = body(kind);
    const asks = kind.startsWith("asks");
    const sent = { ...Object.fromEntries(headers) };
    if (kind !== "chunked") sent["content-length"] = whole.length;
    if (asks) sent.expect = "100-continue";
    const call = request(url, { method, headers: sent, agent, timeout: 20_000 });
    call.on("response", (answer) => {
      answer.on("end", () => {
        if (!call.writableEnded) call.destroy();
        resolve(answer.statusCode);
      });
      answer.on("error", reject);
      answer.resume();
    });
    call.on("error", reject);
    call.on("timeout", () => reject(new Error("timeout")));
    if (asks) {
      call.on("continue", () => call.end(whole));
      call.flushHeaders();
    } else if (kind === "chunked") {
      for (const piece of pieces(whole)) call.write(piece);
      call.end();
    } else {
      call.end(whole);
    }
  });
}

await run(ask);
agent.destroy();
