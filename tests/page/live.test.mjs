// What moves while events come: rates, rows, charts, coverage; and what is told of batch runs and streams.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { createServer, request } from 'node:http';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { cell, close, open, until } from './browser.mjs';
import { someClicks, start } from './server.mjs';

let server;
before(async () => { server = await start(); });
after(async () => { await close(); await server[Symbol.asyncDispose](); });

const drawn = (page) => page.evaluate(() => document.querySelector('.chart canvas')?.toDataURL() ?? null);
const hero = (page, place) => page.locator(`.place.${place} .hero b`).textContent();

test('rows and chart of a view move while events come', async () => {
  await server.ingest('clicks', someClicks(30, ['/a'], Date.now() - 60_000));
  await open(server, '#/views/clicks_per_10s', async (page) => {
    await until(() => page.locator('.rows-body tbody tr').count(), (n) => n >= 1);
    await server.ingest('clicks', someClicks(60, ['/a', '/b'], Date.now() - 30_000));
    const first = await until(() => drawn(page), (image) => image !== null);
    const rows = await page.locator('.rows-body tbody tr').count();
    await server.ingest('clicks', someClicks(900, ['/a', '/b', '/c']));
    await until(() => page.locator('.rows-body tbody tr').count(), (n) => n > rows);
    await until(() => drawn(page), (image) => image !== null && image !== first);
    assert.match(await page.locator('.chart').getAttribute('aria-label'), /^Chart of clicks_per_10s: \/a \d/);
  });
});

test('a row that changes keeps its place in the page, and has the exact number', async () => {
  const before = await (await fetch(`${server.url}/v1/views/clicks_by_page?page=%2Fexact`)).json();
  assert.deepEqual(before.rows, []);
  await server.ingest('clicks', someClicks(7, ['/exact']));
  await open(server, '#/views/clicks_by_page', async (page) => {
    const clicks = () => cell(page, 'Rows of clicks_by_page', '/exact', 'clicks');
    await until(clicks, '7');
    await page.evaluate(() => { [...document.querySelectorAll('td')].find((td) => td.textContent === '/exact').dataset.same = 'yes'; });
    await server.ingest('clicks', someClicks(4993, ['/exact']));
    await until(clicks, '5,000');
    assert.equal(await page.locator('td[data-same]').textContent(), '/exact', 'its cell was not made anew');
  });
});

test('the data path tells rates, and where answers come from after a batch', async () => {
  await open(server, '#/', async (page) => {
    await until(() => hero(page, 'serving'), '2');
    const feeding = setInterval(() => server.ingest('clicks', someClicks(50)), 100);
    try {
      await until(() => hero(page, 'log'), (rate) => Number(rate.replace(',', '')) > 50);
      await until(() => hero(page, 'speed'), (rate) => Number(rate.replace(',', '')) > 50);
      await until(() => page.locator('.edge.log-speed.flows').count(), 1);
      const first = await until(() => drawn(page), (image) => image !== null);
      await until(() => drawn(page), (image) => image !== first);
    } finally {
      clearInterval(feeding);
    }
    await server.run('batch');
    await until(() => page.locator('.place.serving .of-batch + span').textContent(), (share) => parseFloat(share) > 90);
    await until(() => page.locator('.place.batch dd').nth(2).textContent(), (audit) => /^\d+ equal$/.test(audit));
    assert.match(await page.locator('table .bar').first().getAttribute('aria-label'), /% from the batch view/);
  });
});

test('batch views are listed with how long they took, and each segment with its audit', async () => {
  await server.ingest('clicks', someClicks(2500));
  await server.run('batch');
  await open(server, '#/batch', async (page) => {
    const took = await until(() => cell(page, 'Batch views that were published', 'clicks_by_page', 'Took'), (text) => text !== null);
    assert.match(took, /^[\d.]+ (ms|s)$/);
    const label = await until(() => page.locator('.cells').first().getAttribute('aria-label'), (text) => text !== null);
    assert.match(label, /^clicks, partition 0: \d+ equal/);
    assert.ok(await page.locator('.cells i.equal').count() > 1);
    assert.equal(await page.locator('.cells i.unequal').count(), 0);
  });
});

test('how far a batch run is can be seen, and that one was broken off', async () => {
  await server.run('batch');
  const { views } = (await (await fetch(`${server.url}/v1/batches`)).json());
  const { fingerprint } = views.find(({ view }) => view === 'clicks_by_page');
  const dir = path.join(server.project, 'data/store/views/clicks_by_page', fingerprint, 'run');
  await mkdir(dir, { recursive: true });
  // As a run of many segments writes it, once a second.
  const write = (age) => {
    const at = (BigInt(Date.now()) - BigInt(age)) * 1_000_000n;
    return writeFile(path.join(dir, 'progress.json'), `{"mode":"full","started":${at},"at":${at},"done":64,"total":640,"events":1310720}`);
  };
  await write(0);
  await open(server, '#/batch', async (page) => {
    const run = page.getByRole('region', { name: 'Batch run of clicks_by_page' });
    await until(() => run.textContent(), (text) => /full run64 of 640 segments, 1\.31M events/.test(text));
    assert.equal(await run.getByRole('progressbar').getAttribute('value'), '10');
    await write(60_000);
    await until(() => run.textContent(), (text) => text.includes('broken off') && text.includes('the next run goes on from there'));
    await rm(dir, { recursive: true });
    await until(() => run.count(), 0);
  });
});

test('a stream tells its newest events, what was rejected and why, and what came late', async () => {
  await server.ingest('clicks', someClicks(20));
  await server.ingest('clicks', ['{"event_time": "yesterday"}', 'not json']);
  await server.ingest('clicks', someClicks(3, ['/late'], Date.now() - 3_600_000));
  await open(server, '#/streams/clicks', async (page) => {
    const reasons = await until(() => page.locator('.reasons').first().textContent(), (text) => text.length > 0);
    assert.match(reasons, /expected TIMESTAMP, found string "yesterday"/);
    assert.match(await page.locator('.raw').textContent(), /not json/);
    await until(() => page.locator('table', { hasText: '_ingest_time' }).locator('tbody tr').count(), (n) => n >= 23);
    await until(() => cell(page, 'Late events by view', 'clicks_per_10s', 'Events'), (n) => Number(n) >= 3);
    const newest = () => page.locator('table', { hasText: '_ingest_time' }).locator('tbody tr').first().textContent();
    await server.ingest('clicks', someClicks(1, ['/brand-new']));
    await until(newest, (text) => text.includes('/brand-new'));
  });
});

test('the page works below a path of a proxy', async () => {
  const proxy = createServer((asked, answer) => {
    if (!asked.url.startsWith('/twofold/')) { answer.writeHead(404).end(); return; }
    const passed = request(server.url + asked.url.slice('/twofold'.length), { method: asked.method, headers: asked.headers }, (response) => {
      answer.writeHead(response.statusCode, response.headers);
      response.pipe(answer);
    });
    passed.on('error', () => answer.destroy());
    asked.pipe(passed);
  }).listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  try {
    await open({ url: `http://127.0.0.1:${proxy.address().port}/twofold` }, '#/', async (page) => {
      await until(() => page.locator('.health').textContent(), (text) => text !== 'Connecting' && !text.includes('problem'));
      await until(() => hero(page, 'serving'), '2');
    });
  } finally {
    proxy.closeAllConnections();
    proxy.close();
  }
});

test('pushed changes are taken where the server pushes', async () => {
  const told = (event, data) => `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
  const columns = [{ name: 'page', type: 'TEXT' }, { name: 'clicks', type: 'BIGINT' }];
  const body = told('rows', { key: ['page'], columns, rows: [{ page: '/x', clicks: 1 }, { page: '/y', clicks: 2 }], coverage: [], watermark: null })
    + ': a comment\n\n' + told('changes', { changed: [{ page: '/x', clicks: 41 }, { page: '/z', clicks: 3 }], removed: [{ page: '/y' }], coverage: [], watermark: null });
  await open(server, '#/', async (page) => {
    await page.route('**/changes', (route) => route.fulfill({ contentType: 'text/event-stream', body }));
    await page.evaluate(() => { location.hash = '#/views/clicks_by_page'; });
    await until(() => cell(page, 'Rows of clicks_by_page', '/x', 'clicks'), '41');
    assert.equal(await cell(page, 'Rows of clicks_by_page', '/z', 'clicks'), '3');
    assert.equal(await page.locator('.rows-body tbody tr').count(), 2);
  });
});
