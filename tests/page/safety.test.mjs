// What comes from events is text, whatever it says; what the browser is told of the page; tokens.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { cell, close, open, until } from './browser.mjs';
import { start } from './server.mjs';

const SCRIPT = '<script>window.hit = 1</script>';
const IMAGE = '<img src=x onerror="window.hit = 1">';
let server;
before(async () => {
  server = await start();
  const event = (page, user_id) => ({ event_time: new Date().toISOString().replace('Z', ''), user_id, page, duration_ms: 1 });
  await server.ingest('clicks', [event(SCRIPT, IMAGE), event(IMAGE, SCRIPT), event('javascript:window.hit=1', 'u')]);
  await server.ingest('clicks', [`{"page": "${IMAGE.replaceAll('"', '\\"')}"`]);
});
after(async () => { await close(); await server[Symbol.asyncDispose](); });

test('an event that contains script is shown as text, on every page', async () => {
  const places = {
    '#/views/clicks_by_page': (page) => cell(page, 'Rows of clicks_by_page', SCRIPT, 'clicks'),
    '#/views/clicks_per_10s': (page) => cell(page, 'Rows of clicks_per_10s', IMAGE, 'clicks'),
    '#/streams/clicks': (page) => page.locator('td', { hasText: IMAGE }).first().textContent(),
    [`#/sql?q=${encodeURIComponent(`SELECT page AS "${IMAGE.replaceAll('"', '""')}", 1 AS n FROM clicks`)}`]: (page) => page.locator('thead').textContent().then((text) => (text.includes(IMAGE) ? text : null)),
    [`#/views/${encodeURIComponent(SCRIPT)}`]: (page) => page.locator('h1').textContent(),
  };
  for (const [hash, shown] of Object.entries(places)) {
    await open(server, hash, async (page) => {
      await until(() => shown(page), (text) => text !== null && text !== '');
      await page.waitForTimeout(300);
      assert.equal(await page.evaluate(() => window.hit), undefined, hash);
      assert.equal(await page.locator('main script, main img, main iframe').count(), 0, hash);
    }, { expected: [/404 \(Not Found\)/] });
  }
});

test('rejected bytes are shown as they came', async () => {
  await open(server, '#/streams/clicks', async (page) => {
    await until(() => page.locator('.raw').textContent(), (text) => text.includes(IMAGE.replaceAll('"', '\\"')));
    assert.equal(await page.evaluate(() => window.hit), undefined);
  });
});

test('the browser lets the page run no script of others, and make no markup of text', async () => {
  await open(server, '#/', async (page) => {
    const tried = await page.evaluate(() => {
      const inline = document.createElement('script');
      const outcome = {};
      try { inline.textContent = 'window.hit = 2'; document.head.append(inline); outcome.inline = 'added'; } catch (error) { outcome.inline = error.name; }
      try { document.body.innerHTML += '<p>'; outcome.markup = 'made'; } catch (error) { outcome.markup = error.name; }
      return outcome;
    });
    assert.equal(await page.evaluate(() => window.hit), undefined);
    assert.deepEqual(tried, { inline: 'TypeError', markup: 'TypeError' });
    await until(() => page.evaluate(() => window.violations.length), (n) => n >= 2);
    await page.evaluate(() => { window.violations = []; });
  }, { expected: [/Content Security Policy/, /TrustedScript/, /TrustedHTML/, /requires 'Trusted/] });
});

test('no other site is asked for anything', async () => {
  const asked = new Set();
  await open(server, '#/', async (page) => {
    page.on('request', (request) => asked.add(new URL(request.url()).origin));
    for (const hash of ['#/views', '#/sql', '#/streams', '#/batch']) {
      await page.goto(`${server.url}/${hash}`);
      await page.waitForTimeout(500);
    }
  });
  assert.deepEqual([...asked], [server.url]);
});

test('where the server wants a token, one is asked for, sent, and forgotten with the tab', async () => {
  await open(server, '#/', async (page) => {
    const sent = [];
    await page.route('**/v1/**', (route) => {
      const token = route.request().headers().authorization;
      sent.push(token);
      return token === 'Bearer secret' ? route.continue() : route.fulfill({ status: 401, contentType: 'application/json', body: '{"error":"a token is needed","kind":"invalid"}' });
    });
    const dialog = page.getByRole('dialog', { name: 'This server asks for a token' });
    await dialog.waitFor();
    assert.match(await dialog.textContent(), /a token is needed/);
    await page.getByRole('textbox', { name: 'Token' }).fill('secret');
    await page.keyboard.press('Enter');
    await until(() => page.locator('.health').textContent(), 'All well');
    assert.ok(sent.includes('Bearer secret'));
    assert.deepEqual(await page.evaluate(() => [localStorage.getItem('twofold-token'), sessionStorage.getItem('twofold-token')]), [null, 'secret']);
  }, { expected: [/401 \(Unauthorized\)/] });
});

test('a token that may read one view shows that view, and says why it does not show the platform', async () => {
  const own = await start();
  try {
    await own.ingest('clicks', [{ event_time: '2026-01-01T00:00:00', user_id: 'u', page: '/home', duration_ms: 7 }]);
    const said = await own.run('token', 'create', 'board', '--read', 'clicks_by_page');
    const token = /twofold_\S+/.exec(said)[0];
    await until(async () => (await fetch(`${own.url}/v1/status`)).status, 401);
    await open(own, '#/views/clicks_by_page', async (page) => {
      await page.getByRole('dialog', { name: 'This server asks for a token' }).waitFor();
      await page.getByRole('textbox', { name: 'Token' }).fill(token);
      await page.keyboard.press('Enter');
      await until(() => cell(page, 'Rows of clicks_by_page', '/home', 'clicks'), '1');
      assert.match(await page.locator('main').textContent(), /FROM clicks\s+GROUP BY page/);
      await page.goto(`${own.url}/#/views/clicks_per_10s`);
      await until(() => page.locator('.trouble').textContent(), (text) => text?.includes('lacks the scope `read clicks_per_10s`'));
      await page.goto(`${own.url}/#/`);
      await until(() => page.locator('.state-strip summary').textContent(), (text) => text.includes('does not show the state of the platform'));
      await until(() => page.locator('.health').textContent(), '1 notice');
    }, { expected: [/401 \(Unauthorized\)/, /403 \(Forbidden\)/] });
  } finally {
    await own[Symbol.asyncDispose]();
  }
});
