// Uses the types that openapi-typescript makes of /openapi.json: node client.mjs URL
import createClient from "openapi-fetch";

import type { components, paths } from "./schema.js";

type Accepted = components["schemas"]["EnvelopeAccepted"];
type Status = components["schemas"]["MessageStatus"];

const client = createClient<paths>({ baseUrl: process.argv[2] });

function check(holds: boolean, what: unknown): asserts holds {
  if (!holds) throw new Error(JSON.stringify(what));
}

const event = {
  end_device_id: "typescript-client",
  occurred_at: new Date().toISOString(),
  data: { pressure: 2.5 },
};
const header = { "Idempotency-Key": `typescript-${crypto.randomUUID()}` };
const first = await client.POST("/v1/envelopes", { body: event, params: { header } });
check(first.response.status === 202, first);
check((first.data as Accepted).status === "accepted", first);
const again = await client.POST("/v1/envelopes", { body: event, params: { header } });
check((again.data as Accepted).duplicate, again);

const wrong = await client.POST("/v1/envelopes", { body: { ...event, end_device_id: "no.device" } });
check(wrong.error?.field === "end_device_id", wrong);

const lines = await client.POST("/v1/envelopes", {
  body: `${JSON.stringify(event)}\n${JSON.stringify(event)}\n`,
  headers: { "Content-Type": "application/x-ndjson" },
  bodySerializer: (body: unknown) => body as string,
});
check(lines.data !== undefined && "results" in lines.data && lines.data.accepted === 2, lines);

// No two customers have the same key.
const customer = `C|${Date.now()}|Customer#370|Street 1|12|22-524|171.42|MACHINERY|regular`;
const taken = await client.POST("/ingest/message", {
  body: customer,
  headers: { "Content-Type": "text/plain" },
  bodySerializer: (body: unknown) => body as string,
});
check(taken.data !== undefined, taken);
const status = await client.GET("/ingest/status/{message_id}", {
  params: { path: { message_id: taken.data.message_id }, query: { wait: "20s" } },
});
check((status.data as Status).status === "processed", status);
console.log("typescript: done");
