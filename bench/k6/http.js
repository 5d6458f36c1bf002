// Load on the HTTP API.
//
//   k6 run -e URL=http://127.0.0.1:8080 -e MODE=envelope bench/k6/http.js
//
// MODE: envelope (POST /v1/envelopes), message (POST /ingest/message), batch (POST /ingest/batch).
// KEY is the API key, if one is wanted; CLIENTS, DURATION and LINES (of a batch) may be set too.
// It fails when an answer is an error, the 95th percentile is 200 ms or more, or one of the messages
// that it follows to the end (one of SAMPLE, 1000 without) is not processed.

import http from "k6/http";
import { check } from "k6";
import { Counter } from "k6/metrics";
import exec from "k6/execution";

const url = __ENV.URL || "http://127.0.0.1:8080";
const mode = __ENV.MODE || "envelope";
const lines = Number(__ENV.LINES || 1000);
const sample = Number(__ENV.SAMPLE || 1000);
const accepted = new Counter("events_accepted");

export const options = {
  vus: Number(__ENV.CLIENTS || 50),
  duration: __ENV.DURATION || "5m",
  thresholds: {
    http_req_failed: ["rate==0"],
    "http_req_duration{kind:send}": ["p(95)<200"],
    checks: ["rate==1"],
  },
};

function headers(contentType) {
  const all = { "Content-Type": contentType };
  if (__ENV.KEY) {
    all.Authorization = `Bearer ${__ENV.KEY}`;
  }
  return { headers: all, tags: { kind: "send" } };
}

// Keys are fresh in every run, and from 1: an order that is there already would be refused.
export function setup() {
  return { first: Date.now() * 1000 };
}

function order(number) {
  return `O|${number}|1|O|100.50|2026-03-01|1-URGENT|Clerk#000000001|0|k6`;
}

// Accepted is not processed: asks what became of a message.
function follow(id) {
  const asked = headers("text/plain");
  asked.tags = { kind: "status" };
  const answer = http.get(`${url}/ingest/status/${id}?wait=30s`, asked);
  check(answer, { processed: (got) => got.status === 200 && got.json("status") === "processed" });
}

const requests = {
  envelope(number) {
    const envelope = {
      end_device_id: `k6-${number % 1000}`,
      occurred_at: new Date().toISOString(),
      data: { temperature: 20 + (number % 100) / 10, number },
    };
    const answer = http.post(`${url}/v1/envelopes`, JSON.stringify(envelope), headers("application/json"));
    return [answer, 1];
  },
  message(number) {
    const answer = http.post(`${url}/ingest/message`, order(number), headers("text/plain"));
    return [answer, 1, "message_id"];
  },
  batch(number) {
    const body = Array.from({ length: lines }, (_, line) => order(number * lines + line)).join("\n");
    const answer = http.post(`${url}/ingest/batch`, body, headers("text/plain"));
    return [answer, lines, "results.0.message_id"];
  },
};

export default function (run) {
  const iteration = exec.scenario.iterationInTest;
  const [answer, events, id] = requests[mode](iteration + Math.floor(run.first / (mode === "batch" ? lines : 1)));
  // 202 says that every line is taken.
  const done = check(answer, { 202: (got) => got.status === 202 });
  if (done) {
    accepted.add(events);
  }
  if (done && id && iteration % Math.max(1, Math.floor(sample / events)) === 0) {
    follow(answer.json(id));
  }
}
