// Looks at the page of the admin address and uses it, as somebody would:
// node page.mjs URL BROWSER flows|held|dead-letters TOKEN [FOLDER]
// With a folder it leaves screenshots there.
import puppeteer from "puppeteer-core";

const [url, executablePath, what, token, folder] = process.argv.slice(2);
const WAIT = { timeout: 60_000 };
const browser = await puppeteer.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
const wrong = [];

function check(isSo, text) {
  if (!isSo) throw new Error(text);
}

async function open() {
  const page = await browser.newPage();
  page.on("pageerror", (err) => wrong.push(String(err)));
  page.on("console", (message) => message.type() === "error" && wrong.push(message.text()));
  page.on("request", (request) => {
    const to = request.url();
    if (!to.startsWith(`${url}/`) && !to.startsWith("data:")) wrong.push(`asks ${to}`);
  });
  await page.setViewport({ width: 1440, height: 1000 });
  await page.goto(`${url}/`);
  await page.waitForFunction(() => document.getElementById("live").textContent === "live", WAIT);
  return page;
}

const text = (page, selector) => page.$eval(selector, (it) => it.textContent);
const until = (page, test, ...args) => page.waitForFunction(test, WAIT, ...args);
async function shot(page, name) {
  if (folder) await page.screenshot({ path: `${folder}/${name}.png`, fullPage: true });
}

async function flows(page) {
  await until(page, () => document.getElementById("ready").textContent === "ready");
  // A line, which takes two moments, and events in one of them.
  await until(page, () => document.querySelector("#plots path.s1").getAttribute("d").includes("L"));
  await until(page, () => Number(document.querySelector("#pipelines tbody tr.chosen td:nth-child(3)").textContent.replaceAll(",", "")) > 0);
  check((await text(page, "#consumers tbody")).includes("ponix-all-in-one"), "no consumer is shown");
  await shot(page, "page");
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }]);
  const ground = await page.$eval("body", (it) => getComputedStyle(it).backgroundColor);
  check(ground === "rgb(20, 24, 27)", `dark is ${ground}`);
  await shot(page, "page-dark");
  await page.setViewport({ width: 390, height: 844 });
  const [inner, wide] = await page.evaluate(() => [innerWidth, document.documentElement.scrollWidth]);
  check(wide <= inner, `${wide} px on a phone of ${inner}`);
  await shot(page, "page-phone");
  await page.setViewport({ width: 1440, height: 1000 });
  // By the keyboard alone: every pipeline can be reached and chosen, and keeps the focus.
  await page.focus("#pipelines tbody tr:last-child button");
  const name = await page.evaluate(() => document.activeElement.dataset.pipeline);
  await page.keyboard.press("Enter");
  const chosen = await page.evaluate(() => [document.activeElement.dataset.pipeline, document.activeElement.getAttribute("aria-pressed")]);
  check(chosen.join() === `${name},true`, `chosen: ${chosen}`);
}

async function held(page) {
  await until(page, () => document.getElementById("ready").textContent === "NOT ready");
  await until(page, () => document.getElementById("findings").textContent.includes("intake of envelopes has stopped"));
  await shot(page, "page-held");
}

const letters = (page) => page.$$eval("#letters > li", (items) => items.length);
const answered = async (page, id) => {
  await page.waitForSelector("#question[open]", WAIT);
  await page.click(id);
};

async function deadLetters(page) {
  await until(page, () => document.querySelectorAll("#letters > li").length === 3);
  await page.type('#filter [name="reason"]', "decode");
  await page.keyboard.press("Enter");
  await until(page, () => document.querySelectorAll("#letters > li").length === 2);
  check((await text(page, "#counts")).includes("2 decode"), await text(page, "#counts"));
  await page.click("#letters summary");
  check((await text(page, "#letters details[open] .body")).includes("no protobuf"), "the body is not shown");
  await shot(page, "page-dead-letters");
  // Markup in a body is text.
  check(await page.$("#letters b") === null, "a body became markup");

  await page.type("#token", "not the token");
  await page.click("#replay");
  await answered(page, "#yes");
  await until(page, () => document.getElementById("done").textContent.includes("token"));
  // That answer stands in the browser's console, as it should.
  wrong.length = 0;
  await page.$eval("#token", (it) => { it.value = ""; });
  await page.type("#token", token);
  await page.click("#discard");
  await answered(page, "#no");
  check(await letters(page) === 2, "No was not taken for an answer");
  await page.click("#replay");
  await answered(page, "#yes");
  // They are what they were, and come back.
  await until(page, () => document.getElementById("done").textContent.startsWith("2 put back"));
  check((await text(page, "#done")).includes("2 dead again"), await text(page, "#done"));
  await page.click("#letters input");
  await page.click("#discard");
  await answered(page, "#yes");
  await until(page, () => document.getElementById("done").textContent === "1 discarded");
  await until(page, () => document.querySelectorAll("#letters > li").length === 1);
}

try {
  const page = await open();
  await { flows, held, "dead-letters": deadLetters }[what](page);
  check(wrong.length === 0, wrong.join("\n"));
  console.log(`page: ${what}`);
} finally {
  await browser.close();
}
