// Presses Execute on each operation of the page at /docs: node browser.mjs URL BROWSER
import puppeteer from "puppeteer-core";

const [url, executablePath] = process.argv.slice(2);
const args = ["--no-sandbox", "--disable-dev-shm-usage"];
const browser = await puppeteer.launch({ executablePath, args });
let messageId;

// Tries one operation as it stands there; returns the status and the body of its answer.
async function execute(page, id) {
  const inside = (selector) => page.waitForSelector(`[id="${id}"] ${selector}`);
  const click = async (selector) => (await inside(selector)).evaluate((it) => it.click());
  await click(".opblock-summary-control");
  await click(".try-out__btn");
  // The page puts examples of NDJSON into quotes, as if they were JSON.
  const select = `[id="${id}"] .opblock-section-request-body .content-type`;
  if (await page.$(`${select} option[value="text/plain"]`)) await page.select(select, "text/plain");
  if (id.endsWith("get_status")) {
    const input = await inside('tr[data-param-name="message_id"] input:not([disabled])');
    await input.type(messageId);
    // The page takes it over when the field is left.
    await input.press("Tab");
  }
  await click(".execute");
  const answer = await inside(".live-responses-table tbody .response-col_status");
  const status = await answer.evaluate((it) => it.textContent.trim().slice(0, 3));
  const body = await inside(".live-responses-table tbody .response-col_description pre");
  return [Number(status), await body.evaluate((it) => it.textContent)];
}

try {
  const page = await browser.newPage();
  await page.goto(`${url}/docs/`);
  await page.waitForSelector(".opblock");
  const ids = await page.$$eval(".opblock", (blocks) => blocks.map((it) => it.id));
  // Those that send come first: the others ask for what was sent.
  ids.sort((a, b) => Number(a.includes("status")) - Number(b.includes("status")));
  for (const id of ids) {
    const [status, body] = await execute(page, id);
    if (![200, 202].includes(status)) throw new Error(`${id}: ${status} ${body}`);
    if (id.endsWith("post_message")) messageId = JSON.parse(body).message_id;
    console.log(`${id}: ${status}`);
  }
  if (ids.length < 6) throw new Error(`only ${ids}`);
  console.log("browser: done");
} finally {
  await browser.close();
}
