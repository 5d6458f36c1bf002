// Load on the HTTP API.
//
//   k6 run -e URL=http://127.0.0.1:8080 -e MODE=envelope bench/k6/http.js
//
// MODE: envelope (POST /v1/envelopes), message (POST /ingest/message), batch (POST /ingest/batch).
// KEY is the API key, if one is wanted; CLIENTS, DURATION and LINES (of a batch) may be set too.
// It fails when an answer is an error or the 95th percentile is 200 ms or more.

import http from "k6/http";
import { check } from "k6";
import { Counter } from "k6/metrics";
import exec from "k6/execution";

const url = __ENV.URL || "http://127.0.0.1:8080";
const mode = __ENV.MODE || "envelope";
const lines = Number(__ENV.LINES || 1000);
const accepted = new Counter("events_accepted");

export const options = {
  vus: Number(__ENV.CLIENTS || 50),
  duration: __ENV.DURATION || "5m",
  thresholds: {
    http_req_failed: ["rate==0"],
    http_req_duration: ["p(95)<200"],
    checks: ["rate==1"],
  },
};

function headers(contentType) {
  const all = { "Content-Type": contentType };
  if (__ENV.KEY) {
    all.Authorization = `Bearer ${__ENV.KEY}`;
  }
  return { headers: all };
}

function order(number) {
  return `O|${number}|1|O|100.50|2026-03-01|1-URGENT|Clerk#1|0|k6`;
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
    return [http.post(`${url}/ingest/message`, order(number), headers("text/plain")), 1];
  },
  batch(number) {
    const body = Array.from({ length: lines }, (_, line) => order(number * lines + line)).join("\n");
    const answer = http.post(`${url}/ingest/batch`, body, headers("text/plain"));
    return [answer, answer.status === 202 ? answer.json("accepted") : 0];
  },
};

export default function () {
  const [answer, events] = requests[mode](exec.scenario.iterationInTest);
  const done = check(answer, { "202": (got) => got.status === 202 });
  if (done) {
    accepted.add(events);
  }
}
