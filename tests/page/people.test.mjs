// For everybody: keyboard, screen reader, phone, dark, little motion; nothing jumps while data streams.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { close, open, until } from './browser.mjs';
import { someClicks, start } from './server.mjs';

const AXE = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const PLACES = ['#/', '#/views', '#/views/clicks_by_page', '#/views/clicks_per_10s', '#/views/top_pages', '#/sql?q=SELECT%20*%20FROM%20clicks_by_page', '#/streams', '#/streams/clicks', '#/batch'];
const PHONE = { viewport: { width: 375, height: 812 }, hasTouch: true, isMobile: true };

let server;
let feeding;
before(async () => {
  server = await start();
  await server.ingest('clicks', someClicks(2500, ['/home', '/a-rather-long-path-of-a-page-that-does-not-fit-anywhere/really', '/cart'], Date.now() - 20_000));
  await server.ingest('clicks', ['no event']);
  await server.run('batch');
  feeding = setInterval(() => server.ingest('clicks', someClicks(40)).catch(() => {}), 200);
});
after(async () => { clearInterval(feeding); await close(); await server[Symbol.asyncDispose](); });

/** Goes to a place and waits until it has its data. */
async function visit(page, hash) {
  await page.goto(`${server.url}/${hash}`);
  await until(() => page.locator('.health').textContent(), (text) => text !== 'Connecting');
  await page.waitForTimeout(1500);
}

test('all can be reached by the keyboard, and it is seen where one is', async () => {
  await open(server, '#/', async (page) => {
    await until(() => page.locator('tbody tr').count(), (n) => n > 2);
    await page.keyboard.press('Tab');
    assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Skip to content');
    assert.ok((await page.locator('.skip').boundingBox()).y >= 0, 'it is seen when it is reached');
    await page.keyboard.press('Enter');
    assert.equal(await page.evaluate(() => document.activeElement.id), 'main');
    await page.reload();
    const reached = [];
    for (let i = 0; i < 40; i += 1) {
      await page.keyboard.press('Tab');
      if (await page.evaluate(() => document.activeElement === document.body)) break;
      const found = await page.evaluate(() => {
        const style = getComputedStyle(document.activeElement);
        return { name: document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent.trim(), ring: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2 };
      });
      assert.ok(found.ring, `${found.name} shows that it is reached`);
      reached.push(found.name);
    }
    for (const name of ['Overview', 'SQL', 'Streams', 'clicks_by_page']) assert.ok(reached.includes(name), `${name} is reached: ${reached}`);
    await page.getByRole('link', { name: 'Views', exact: true }).focus();
    await page.keyboard.press('Enter');
    await until(() => page.locator('h1').textContent(), 'Views');
    assert.equal(await page.evaluate(() => document.activeElement.id), 'main', 'one is where the new page begins');
    assert.equal(await page.locator('#said').textContent(), 'Views', 'and is told so');
    assert.equal(await page.title(), 'Views · Twofold');
  });
});

for (const colorScheme of ['light', 'dark']) {
  test(`no rule of accessibility is broken, ${colorScheme}`, async () => {
    // axe is a script of others: this page lets it in.
    await open(server, '#/', async (page) => {
      for (const hash of PLACES) {
        await visit(page, hash);
        await page.evaluate(AXE);
        const found = await page.evaluate(async () => (await window.axe.run(document, { resultTypes: ['violations'] })).violations.map((v) => `${v.id}: ${v.help}: ${v.nodes.slice(0, 3).map((n) => n.target.join(' ')).join(' | ')}`));
        assert.deepEqual(found, [], hash);
      }
    }, { bypassCSP: true, colorScheme });
  });
}

test('a phone shows all pages without scrolling sideways', async () => {
  await open(server, '#/', async (page) => {
    for (const hash of PLACES) {
      await visit(page, hash);
      const [width, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      assert.ok(width <= window && window === 375, `${hash} is ${width} wide`);
    }
  }, PHONE);
});

test('it is dark where the system is, or as it is chosen, and stays so', async () => {
  const ground = (page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number).reduce((a, b) => a + b));
  await open(server, '#/', async (page) => {
    assert.ok(await ground(page) < 120);
    await page.getByRole('button', { name: /^Theme/ }).click();
    assert.ok(await ground(page) > 600, 'light was chosen');
    await page.reload();
    assert.ok(await ground(page) > 600, 'and stays');
  }, { colorScheme: 'dark' });
  await open(server, '#/', async (page) => assert.ok(await ground(page) > 600), { colorScheme: 'light' });
});

test('nothing moves for those who do not want it to', async () => {
  await open(server, '#/', async (page) => {
    await until(() => page.locator('.edge.flows').count(), (n) => n > 0);
    assert.equal(await page.evaluate(() => getComputedStyle(document.querySelector('.edge.flows')).animationName), 'none');
  }, { reducedMotion: 'reduce' });
});

for (const [name, options] of [['a desk', {}], ['a phone', PHONE]]) {
  test(`nothing jumps while data streams, on ${name}`, async () => {
    for (const hash of ['#/', '#/views/clicks_by_page', '#/views/clicks_per_10s', '#/streams/clicks', '#/batch']) {
      await open(server, hash, async (page) => {
        await page.waitForTimeout(5000);
        const shift = await page.evaluate(() => window.shift);
        assert.ok(shift < 0.1, `${hash} shifted by ${shift.toFixed(4)}`);
      }, options);
    }
  });
}
