// The page: reads /page/state once, then what /page/events tells, and the dead letters when asked.

const HOUR_MS = 3_600_000;
const MOMENTS_MAX = 720;
// A time without a moment that is longer than this is a gap in the plot, not a line.
const GAP_MS = 20_000;
const byId = (id) => document.getElementById(id);

let moments = [];
let state = {};
let pipeline = null;
let chosen = new Set();
let listed = { letters: [], pipeline: "" };

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

function svg(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

const missing = (value) => value === null || value === undefined;

function number(value) {
  if (missing(value)) return "–";
  if (value !== 0 && Math.abs(value) < 10) return String(Math.round(value * 10) / 10);
  return Math.round(value).toLocaleString("en");
}

function seconds(value) {
  if (missing(value)) return "–";
  if (value === 0) return "0 s";
  if (value < 1) return `${Math.max(1, Math.round(value * 1000))} ms`;
  if (value < 120) return `${Math.round(value * 10) / 10} s`;
  if (value < 7200) return `${Math.round(value / 60)} min`;
  return `${Math.round(value / 360) / 10} h`;
}

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${Math.round(value * 10) / 10} ${units[unit]}`;
}

// Plots ----------------------------------------------------------------------------------------

const PLOTS = [
  { title: "Events per second", unit: number, lines: [["in", "received_per_s"], ["stored", "stored_per_s"], ["dead letters", "dead_letters_per_s"]] },
  { title: "Lag", unit: seconds, lines: [["oldest not settled", "lag_s"]] },
  { title: "Latency, published to acked", unit: seconds, lines: [["p50", "latency_p50_s"], ["p99", "latency_p99_s"]] },
  { title: "Events per batch", unit: number, lines: [["on average", "batch_events"]] },
];

// The least of 1, 2, 5 times a power of ten that is not below.
function roundUp(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}

function plot({ title, unit, lines }) {
  const [width, height, left, bottom] = [400, 128, 4, 16];
  const end = moments.length ? moments[moments.length - 1].time_ms : Date.now();
  const points = lines.map(([, key]) => moments
    .filter((moment) => end - moment.time_ms <= HOUR_MS)
    .map((moment) => [moment.time_ms, moment.pipelines[pipeline]?.[key]]));
  const values = points.flat().map(([, value]) => value).filter((value) => !missing(value));
  const top = roundUp(Math.max(0, ...values));
  // A service that is young fills the width with what there is, from five minutes on.
  const begin = moments.length ? moments[0].time_ms : end;
  const span = Math.min(HOUR_MS, Math.max(300_000, end - begin));
  const x = (time) => left + (width - left) * (1 - (end - time) / span);
  const y = (value) => 8 + (height - bottom - 8) * (1 - value / top);
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img" });
  const now = lines.map(([name], index) => `${name} ${unit(points[index].at(-1)?.[1])}`).join(", ");
  drawing.append(svg("title", {}, `${title}: ${now}`));
  for (const value of [0, top]) {
    drawing.append(svg("line", { class: "axis", x1: 0, x2: width, y1: y(value), y2: y(value) }));
  }
  points.forEach((line, index) => {
    let path = "";
    let before = null;
    for (const [time, value] of line) {
      if (missing(value)) continue;
      path += `${before !== null && time - before <= GAP_MS ? "L" : "M"}${x(time).toFixed(1)} ${y(value).toFixed(1)}`;
      // A single moment shows as a dot.
      if (before === null || time - before > GAP_MS) path += "h.1";
      before = time;
    }
    drawing.append(svg("path", { class: `s${index}`, d: path }));
  });
  const caption = element("figcaption", {}, element("strong", {}, title));
  lines.forEach(([name], index) => caption.append(
    element("span", { class: `key s${index}` }, `${name} ${unit(points[index].at(-1)?.[1])}`)));
  const scale = element("div", { class: "hint" }, `0 to ${unit(top)}, the last ${Math.round(span / 60_000)} min`);
  return element("figure", {}, caption, drawing, scale);
}

function showPlots() {
  byId("of-pipeline").textContent = pipeline ? `of ${pipeline}` : "";
  byId("plots").replaceChildren(...PLOTS.map(plot));
}

// Tables ---------------------------------------------------------------------------------------

function rows(table, cells) {
  const focused = document.activeElement?.dataset?.pipeline;
  byId(table).tBodies[0].replaceChildren(...cells);
  // The keyboard stays where it was.
  if (focused) byId(table).querySelector(`[data-pipeline="${CSS.escape(focused)}"]`)?.focus();
}

function showTables() {
  const reports = state.overview?.reports ?? [];
  const latest = moments.at(-1)?.pipelines ?? {};
  const names = (state.pipelines ?? []).map((one) => one.name)
    .filter((name) => latest[name] || reports.some((report) => report.pipeline === name));
  if (!names.includes(pipeline)) pipeline = names.find((name) => latest[name]) ?? names[0] ?? null;
  rows("pipelines", names.map((name) => {
    const rates = latest[name] ?? {};
    const report = reports.find((one) => one.pipeline === name);
    const choose = () => { pipeline = name; show(); };
    const share = report?.bytes_max ? report.bytes / report.bytes_max : 0;
    const cells = [
      number(rates.received_per_s), number(rates.stored_per_s), seconds(rates.lag_s),
      seconds(rates.latency_p50_s), seconds(rates.latency_p99_s), number(rates.batch_events),
      number(rates.in_flight), number(rates.pending),
    ].map((text) => element("td", {}, text));
    const dead = report?.dead_letters;
    return element("tr", { class: name === pipeline ? "chosen" : "" },
      element("td", {}, element("button", {
        class: "link", type: "button", "data-pipeline": name, "aria-pressed": String(name === pipeline), onclick: choose,
      }, name)),
      ...cells,
      element("td", { class: dead ? "bad" : "" }, report ? number(dead) : "–"),
      element("td", { class: share >= 0.9 ? "bad" : "" },
        report ? `${bytes(report.bytes)}${report.bytes_max ? `, ${Math.round(share * 100)} %` : ""}` : "–"));
  }));
  const consumers = new Map();
  for (const report of reports) {
    for (const one of report.consumers) consumers.set(`${report.stream} ${one.name}`, [report.stream, one]);
  }
  rows("consumers", [...consumers.values()].map(([stream, one]) => element("tr", {},
    ...[stream, one.name, number(one.pending), number(one.ack_pending), number(one.redelivered)]
      .map((text) => element("td", {}, text)),
    element("td", { class: one.stuck ? "bad" : "" }, seconds(one.lag_seconds)),
    element("td", {}, one.last_ack ?? "never"))));
}

function showSaid() {
  const reasons = state.reasons ?? [];
  byId("ready").textContent = reasons.length ? "NOT ready" : "ready";
  byId("ready").className = reasons.length ? "no" : "yes";
  document.title = reasons.length ? "NOT ready – Ponix" : "Ponix";
  byId("version").textContent = state.version ?? "";
  const findings = [...reasons, ...(state.warnings ?? []), ...(state.overview?.findings ?? [])];
  if (state.unseen) findings.push(`the streams cannot be seen: ${state.unseen}`);
  byId("said").hidden = findings.length === 0;
  byId("said").className = reasons.length ? "" : "warn";
  byId("findings").replaceChildren(...findings.map((text) => element("li", {}, text)));
  byId("changes").hidden = !state.can_change;
  byId("reads-only").hidden = state.can_change !== false;
  const select = byId("filter").elements.pipeline;
  const names = (state.pipelines ?? []).map((one) => one.name);
  if (select.options.length !== names.length + 1) {
    const value = select.value;
    select.replaceChildren(element("option", { value: "" }, "all"),
      ...names.map((name) => element("option", { value: name }, name)));
    select.value = value;
  }
}

function show() {
  showSaid();
  showTables();
  showPlots();
}

// Dead letters ---------------------------------------------------------------------------------

function filter() {
  const fields = new FormData(byId("filter"));
  return Object.fromEntries([...fields].map(([key, value]) => [key, value.trim()]).filter(([, value]) => value));
}

async function ask(path, options) {
  const response = await fetch(path, options);
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error ?? `${response.status} ${response.statusText}`);
  return answer;
}

function say(text, isBad = false) {
  byId("done").textContent = text;
  byId("done").className = isBad ? "bad" : "";
}

const key = (letter) => `${letter.pipeline} ${letter.sequence}`;

function showChosen() {
  byId("chosen").textContent = chosen.size ? `${chosen.size} chosen` : "all that the filter finds";
}

function letterItem(letter) {
  const toggle = (event) => {
    if (event.target.checked) chosen.add(key(letter));
    else chosen.delete(key(letter));
    showChosen();
  };
  const { body, headers, ...rest } = letter;
  const text = typeof body === "string" ? body : JSON.stringify(body, null, 2);
  const facts = Object.entries({ ...rest, ...Object.fromEntries(Object.entries(headers).map(([name, value]) => [`header ${name}`, value])) })
    .filter(([, value]) => !missing(value) && value !== false)
    .map(([name, value]) => `${name}: ${value}`).join("\n");
  return element("li", {},
    element("input", { type: "checkbox", "aria-label": `choose ${key(letter)}`, onchange: toggle, hidden: !state.can_change }),
    element("details", {},
      element("summary", {},
        element("span", { class: "reason" }, letter.reason), ` ${letter.error} `,
        element("span", { class: "when" }, `${letter.pipeline} ${letter.sequence}, ${letter.device ?? letter.subject}, ${letter.kept_at}`)),
      element("pre", {}, facts),
      element("pre", { class: "body" }, text)));
}

async function look() {
  const wanted = filter();
  try {
    const answer = await ask(`dead-letters?${new URLSearchParams(wanted)}`);
    listed = { letters: answer.letters, wanted };
    chosen = new Set();
    showChosen();
    const all = answer.counts.reduce((sum, one) => sum + one.count, 0);
    const counts = answer.counts.map((one) => `${one.pipeline}: ${number(one.count)} ${one.reason}`).join(" · ");
    const shown = all > answer.letters.length ? ` – the newest ${answer.letters.length} of ${number(all)} are shown` : "";
    byId("counts").textContent = all ? counts + shown : "none";
    byId("letters").replaceChildren(...answer.letters.map(letterItem));
  } catch (err) {
    byId("counts").textContent = err.message;
    byId("letters").replaceChildren();
  }
}

function question(text) {
  byId("question-text").textContent = text;
  const dialog = byId("question");
  dialog.returnValue = "";
  dialog.showModal();
  byId("no").focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

// What is to be changed, by pipeline: those that are chosen, or what the filter finds.
function orders() {
  if (!chosen.size) return [{ selection: listed.wanted ?? {}, all: true }];
  const byPipeline = Map.groupBy(listed.letters.filter((letter) => chosen.has(key(letter))), (letter) => letter.pipeline);
  return [...byPipeline].map(([name, letters]) => (
    { selection: { pipeline: name, sequences: letters.map((letter) => letter.sequence) } }));
}

async function change(what, asked) {
  const which = chosen.size ? `${chosen.size} dead letters` : `all dead letters that the filter finds (${byId("counts").textContent})`;
  if (!await question(`${asked} ${which}?`)) return;
  const answers = [];
  try {
    for (const order of orders()) {
      answers.push(await ask(`dead-letters/${what}`, {
        method: "POST",
        headers: { "Content-Type": "application/json", Authorization: `Bearer ${byId("token").value}` },
        body: JSON.stringify(order),
      }));
    }
    const sum = (name) => answers.reduce((total, answer) => total + (answer[name] ?? 0), 0);
    const again = answers.flatMap((answer) => answer.dead_again ?? []);
    const parts = what === "replay"
      ? [`${sum("put_back")} put back`, sum("not_settled") && `${sum("not_settled")} not settled yet`,
        again.length && `${again.length} dead again: ${again[0].reason}: ${again[0].error}`]
      : [`${sum("discarded")} discarded`];
    say(parts.filter(Boolean).join(", "), again.length > 0);
  } catch (err) {
    say(err.message, true);
  }
  await look();
}

// Live -----------------------------------------------------------------------------------------

async function begin() {
  const { history, ...rest } = await ask("state");
  moments = history;
  state = rest;
  show();
  await look();
}

function listen() {
  const source = new EventSource("events");
  source.onopen = () => {
    byId("live").textContent = "live";
    byId("live").className = "";
    // Also what happened while nobody listened.
    begin().catch(lost);
  };
  source.onmessage = (event) => {
    const { moment, ...rest } = JSON.parse(event.data);
    const before = (state.overview?.reports ?? []).map((report) => report.dead_letters).join();
    state = rest;
    moments = [...moments.filter((one) => one.time_ms !== moment.time_ms), moment].slice(-MOMENTS_MAX);
    show();
    // Not under the hands of somebody who chooses or reads.
    const isBusy = chosen.size || byId("letters").querySelector("details[open]") || byId("question").open;
    const now = (state.overview?.reports ?? []).map((report) => report.dead_letters).join();
    if (now !== before && !isBusy) look();
  };
  source.onerror = () => {
    lost();
    // A browser gives up by itself when it is refused.
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 5000);
  };
}

function lost() {
  byId("live").textContent = "the service does not answer";
  byId("live").className = "lost";
}

byId("filter").addEventListener("submit", (event) => {
  event.preventDefault();
  look();
});
byId("replay").addEventListener("click", () => change("replay", "Put back"));
byId("discard").addEventListener("click", () => change("discard", "Discard for ever"));
byId("yes").addEventListener("click", () => byId("question").close("yes"));
byId("no").addEventListener("click", () => byId("question").close("no"));
listen();
