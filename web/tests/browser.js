// The page in Chromium: a trained network gets its picture right, the ratio is shown, nothing is logged, nothing keeps the page busy while
// the worker runs, memory is flat, and the page fits a phone and a desk. Pictures of both go to target/web-pages.

import assert from "node:assert/strict";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { serve } from "../demo/serve.js";
import { root } from "./data.js";

const PAGES = { phone: { width: 390, height: 844 }, desk: { width: 1280, height: 800 } };
/** The longest that a task may keep a page from answering. */
const LONGEST = 50;

const executablePath = process.env.CHROMIUM ?? ["/usr/bin/chromium", "/usr/bin/chromium-browser"].find(existsSync);
const into = join(process.env.CARGO_TARGET_DIR ?? join(root, "target"), "web-pages");
mkdirSync(into, { recursive: true });

const server = await serve();
const base = `http://127.0.0.1:${server.address().port}`;
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
try {
  for (const [name, viewport] of Object.entries(PAGES)) {
    for (const colorScheme of ["light", "dark"]) await page(name, viewport, colorScheme);
  }
  await memory();
  console.log(`ok: the page on a phone and a desk, light and dark (${into}); memory over 500 runs`);
} finally {
  await browser.close();
  server.close();
}

async function page(name, viewport, colorScheme) {
  const context = await browser.newContext({ viewport, colorScheme });
  const tab = await context.newPage();
  const logged = [];
  tab.on("console", (message) => { if (["error", "warning"].includes(message.type())) logged.push(message.text()); });
  tab.on("pageerror", (error) => logged.push(error.message));
  await tab.goto(`${base}/demo/`);
  const what = `${name}, ${colorScheme}`;
  await tab.waitForFunction(() => Number(document.getElementById("times").textContent) > 0, undefined, { timeout: 60_000 });
  assert.ok(await tab.evaluate(() => crossOriginIsolated), `${what}: isolated`);
  const answer = await tab.textContent("#classes li:first-child");
  assert.match(answer, /ankle boot/, `${what}: the first picture is an ankle boot`);
  assert.ok(await tab.locator("#layers .layer").count() > 5, `${what}: layers`);
  await tab.waitForFunction(() => document.querySelectorAll("#maps canvas").length > 3, undefined, { timeout: 60_000 });

  // the longest task while models run in their workers
  const longest = await tab.evaluate((span) => new Promise((resolve) => {
    let longest = 0;
    new PerformanceObserver((list) => {
      for (const { duration } of list.getEntries()) longest = Math.max(longest, duration);
    }).observe({ type: "longtask" });
    setTimeout(() => resolve(longest), span);
  }), 2000);
  assert.ok(longest <= LONGEST, `${what}: a task of ${longest} ms`);

  const wide = await tab.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(wide <= 0, `${what}: ${wide} pixels too wide`);
  await tab.screenshot({ path: join(into, `${name}-${colorScheme}.png`), fullPage: true });

  if (colorScheme === "light") {
    await tab.focus("#ratio");
    for (let step = 0; step < 12; step++) await tab.keyboard.press("ArrowRight");
    await tab.waitForFunction(() => document.getElementById("status").textContent.includes("ready"), undefined, { timeout: 60_000 });
    await tab.waitForFunction(() => document.getElementById("layers-hint").textContent.length > 0);
    assert.equal(await tab.textContent("#ratio-text"), "60 %", `${what}: the slider by keyboard`);
    const drop = { name: "broken.onnx", mimeType: "application/octet-stream", buffer: Buffer.from("<html>404</html>") };
    await tab.setInputFiles("#file", drop);
    await tab.waitForFunction(() => document.getElementById("status").classList.contains("wrong"), undefined, { timeout: 30_000 });
    assert.match(await tab.textContent("#status"), /not a model/, `${what}: a file that is no model`);
  }
  assert.deepEqual(logged, [], `${what}: logged`);
  await context.close();
}

/** Memory of a model in a worker, and of its tab, over 500 runs. */
async function memory() {
  const tab = await browser.newPage();
  await tab.goto(`${base}/demo/`);
  const [before, after, alive] = await tab.evaluate(async () => {
    const { load } = await import("/js/worker.js");
    const model = await load("/samples/fashion-4x4-50.onnx");
    const feed = { picture: { data: new Float32Array(1024) } };
    await model.run(feed);
    const before = await model.memory();
    for (let run = 0; run < 500; run++) await model.run(feed);
    const after = await model.memory();
    model.free();
    return [before, after, await model.run(feed).then(() => "alive", ({ message }) => message)];
  });
  assert.equal(after, before, "memory over 500 runs");
  assert.equal(alive, "the model was freed");
  await tab.close();
}
