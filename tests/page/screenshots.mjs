// Takes the pictures of docs/images anew: TWOFOLD_BINARY=… CHROMIUM=… node tests/page/screenshots.mjs [SECONDS]
// Of a release build on a quiet machine, and after some minutes, so that the charts have something to show.

import path from 'node:path';
import { chromium } from 'playwright-core';
import { someClicks, start } from './server.mjs';

const IMAGES = path.resolve(import.meta.dirname, '../../docs/images');
const SECONDS = Number(process.argv[2] ?? 240);
const PAGES = ['/home', '/home', '/home', '/search', '/search', '/cart', '/product/teapot', '/help', '/checkout'];
const QUERY = "SELECT w, page, clicks\nFROM clicks_per_10s\nWHERE page IN ('/home', '/search', '/cart')\nORDER BY w DESC\nLIMIT 200";

const wait = (seconds) => new Promise((resolve) => { setTimeout(resolve, seconds * 1000); });
const server = await start();
let beat = 0;
const feeding = setInterval(() => {
  beat += 1;
  const n = Math.round((70 + 40 * Math.sin(beat / 30)) * (0.8 + 0.4 * Math.random()));
  server.ingest('clicks', someClicks(n, PAGES)).catch(() => {});
}, 200);
const batches = setInterval(() => server.run('batch').catch(() => {}), 45_000);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: process.getuid?.() === 0 ? ['--no-sandbox'] : [] });
try {
  const open = async (hash, options) => {
    const page = await browser.newPage({ viewport: { width: 1280, height: 800 }, ...options });
    await page.goto(`${server.url}/${hash}`);
    return page;
  };
  const overview = await open('#/');
  await wait(SECONDS);
  await overview.screenshot({ path: path.join(IMAGES, 'page-overview.png') });
  const sql = await open(`#/sql?q=${encodeURIComponent(QUERY)}`);
  await wait(3);
  await sql.getByRole('tab', { name: 'Chart' }).click();
  await wait(1);
  await sql.screenshot({ path: path.join(IMAGES, 'page-sql.png') });
  const view = await open('#/views/clicks_per_10s', { colorScheme: 'dark' });
  await wait(5);
  await view.screenshot({ path: path.join(IMAGES, 'page-view-dark.png') });
} finally {
  clearInterval(feeding);
  clearInterval(batches);
  await browser.close();
  await server[Symbol.asyncDispose]();
}
