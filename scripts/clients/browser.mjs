// Presses Execute on each operation of the page at /docs: node browser.mjs URL BROWSER
import puppeteer from "puppeteer-core";

const [url, executablePath] = process.argv.slice(2);
const args = ["--no-sandbox", "--disable-dev-shm-usage"];
const browser = await puppeteer.launch({ executablePath, args });
const sent = new Set();
let messageId;

// Tries one operation as it stands there, with each type of body that is a text; returns the status and the
// body of the answers.
async function execute(page, id) {
  const inside = (selector) => page.waitForSelector(`[id="${id}"] ${selector}`);
  const click = async (selector) => (await inside(selector)).evaluate((it) => it.click());
  await click(".opblock-summary-control");
  await click(".try-out__btn");
  const select = `[id="${id}"] .opblock-section-request-body .content-type`;
  let types = await page.$$eval(`${select} option`, (options) => options.map((it) => it.value));
  // Protobuf is a file that somebody has.
  types = types.filter((type) => !type.includes("protobuf"));
  if (id.endsWith("get_status")) {
    const input = await inside('tr[data-param-name="message_id"] input:not([disabled])');
    await input.type(messageId);
    // The page takes it over when the field is left.
    await input.press("Tab");
  }
  const answers = [];
  for (const type of types.length > 0 ? types : [undefined]) {
    if (type !== undefined) await page.select(select, type);
    await click(".execute");
    const answer = await inside(".live-responses-table tbody .response-col_status");
    const status = await answer.evaluate((it) => it.textContent.trim().slice(0, 3));
    const body = await inside(".live-responses-table tbody .response-col_description pre");
    answers.push([type, Number(status), await body.evaluate((it) => it.textContent)]);
    // So that the next answer is not this one.
    await click(".btn-clear");
    await page.waitForSelector(`[id="${id}"] .live-responses-table`, { hidden: true });
  }
  return answers;
}

try {
  const page = await browser.newPage();
  await page.goto(`${url}/docs/`);
  await page.waitForSelector(".opblock");
  const ids = await page.$$eval(".opblock", (blocks) => blocks.map((it) => it.id));
  // Those that send come first: the others ask for what was sent.
  ids.sort((a, b) => Number(a.includes("status")) - Number(b.includes("status")));
  for (const id of ids) {
    for (const [type, status, body] of await execute(page, id)) {
      if (![200, 202].includes(status)) throw new Error(`${id} ${type}: ${status} ${body}`);
      if (id.endsWith("post_message")) messageId = JSON.parse(body).message_id;
      if (type !== undefined) sent.add(type);
      console.log(`${id}: ${type ?? "no body"} ${status}`);
    }
  }
  if (ids.length < 6) throw new Error(`only ${ids}`);
  for (const type of ["application/json", "application/x-ndjson", "text/plain"])
    if (!sent.has(type)) throw new Error(`${type} was not sent, only ${[...sent]}`);
  console.log("browser: done");
} finally {
  await browser.close();
}
