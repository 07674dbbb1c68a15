// Chromium, and pages that hold whatever goes wrong in them against the test.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { chromium } from 'playwright-core';

const EXECUTABLE = process.env.CHROMIUM;
/** Where the files of the page are taken from instead of from the binary, with the headers that it gives them. */
const FILES = process.env.PAGE_FILES;

let browser = null;
async function launched() {
  if (!EXECUTABLE) throw new Error('CHROMIUM names no browser: run scripts/page-test');
  // The sandbox of Chromium refuses to run as root, as tests in a container do.
  browser ??= await chromium.launch({ executablePath: EXECUTABLE, args: process.getuid?.() === 0 ? ['--no-sandbox'] : [] });
  return browser;
}

export async function close() {
  await browser?.close();
  browser = null;
}

/**
 * Opens a page of the server, hands it to the test, and then demands that nothing was wrong in it: no error in the
 * console, no exception, nothing that the policy of the page forbade. `expected` are errors that the test makes.
 */
export async function open(server, hash, test, { expected = [], ...options } = {}) {
  const context = await (await launched()).newContext({ viewport: { width: 1280, height: 800 }, ...options });
  if (FILES) await context.route(/\/page\/[^?]*$/, fromDisk);
  const page = await context.newPage();
  const wrong = [];
  // A server without pushed changes says so by a 404, and the page asks instead.
  const known = [/\/changes$/, ...expected];
  page.on('console', (message) => {
    const told = `${message.type()}: ${message.text()} ${message.location().url ?? ''}`;
    if (['error', 'warning'].includes(message.type()) && !known.some((fine) => fine.test(told.trim()))) wrong.push(told);
  });
  page.on('pageerror', (error) => wrong.push(`exception: ${error.stack}`));
  await page.addInitScript(() => {
    window.violations = [];
    addEventListener('securitypolicyviolation', (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
    window.shift = 0;
    new PerformanceObserver((list) => { for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value; }).observe({ type: 'layout-shift', buffered: true });
  });
  try {
    await page.goto(`${server.url}/${hash}`);
    await test(page, context);
    wrong.push(...await page.evaluate(() => window.violations));
  } finally {
    await context.close();
  }
  assert.deepEqual(wrong, [], 'nothing is wrong in the page');
}

async function fromDisk(route) {
  const response = await route.fetch();
  const [, file] = /\/page\/(.*)$/.exec(new URL(route.request().url()).pathname);
  await route.fulfill({ response, body: await readFile(path.join(FILES, file)) });
}

/** Waits until a function of the page gives what is expected, and says what it gave if it does not. */
export async function until(read, expected, patience = 15_000) {
  const fits = typeof expected === 'function' ? expected : (found) => found === expected;
  const end = Date.now() + patience;
  for (;;) {
    let found;
    try { found = await read(); } catch (error) { found = error; }
    if (!(found instanceof Error) && fits(found)) return found;
    if (Date.now() > end) assert.fail(`expected ${expected}, found ${found instanceof Error ? found.message : JSON.stringify(found)}`);
    await new Promise((resolve) => { setTimeout(resolve, 100); });
  }
}

/** The text of a cell: of the row that begins with `row`, below the head that begins with `column`. */
export async function cell(page, table, row, column) {
  return page.evaluate(([table, row, column]) => {
    const found = [...document.querySelectorAll('table')].find((t) => t.caption?.textContent === table);
    const place = [...(found?.tHead.rows[0].cells ?? [])].findIndex((head) => head.textContent.trim().startsWith(column));
    const line = [...(found?.tBodies[0].rows ?? [])].find((r) => [...r.cells].some((c) => c.textContent === row));
    return line?.cells[place]?.textContent ?? null;
  }, [table, row, column]);
}
