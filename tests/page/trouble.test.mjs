// When something is wrong, it is red, with the reason.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { close, open, until } from './browser.mjs';
import { someClicks, start } from './server.mjs';

let server;
before(async () => { server = await start('CREATE MATERIALIZED VIEW fragile AS SELECT CAST(page AS BIGINT) AS n, count(*) AS c FROM clicks GROUP BY 1;'); });
after(async () => { await close(); await server[Symbol.asyncDispose](); });

const strip = (page) => page.locator('.state-strip');

test('all is well, then a view fails on an event, then the server is gone', async () => {
  await open(server, '#/', async (page) => {
    await until(() => page.locator('.health').textContent(), 'All well');
    assert.equal(await page.locator('.is-bad').count(), 0);
    await server.ingest('clicks', someClicks(1, ['/no-number']));
    await until(() => page.locator('.health').textContent(), '1 problem');
    assert.match(await strip(page).textContent(), /View fragile stands still.*no-number/);
    assert.equal(await page.locator('.place.speed.is-bad').count(), 1, 'the place where it is is red');
    assert.match(await page.locator('#said').textContent(), /View fragile stands still/, 'and it is said');
    await until(() => page.locator('tr', { hasText: 'fragile' }).textContent(), (text) => text.includes('failed'));
    await strip(page).locator('summary').click();
    assert.match(await strip(page).textContent(), /change it, for example to TRY_CAST/);

    await page.evaluate(() => { location.hash = '#/views/fragile'; });
    await until(() => page.getByRole('alert').textContent(), (text) => text.includes('stands still'));
    await page.evaluate(() => { location.hash = '#/'; });
    await server.stop();
    await until(() => strip(page).textContent(), (text) => text.includes('The server does not answer'));
    assert.ok(await page.locator('tbody tr').count() > 2, 'what was known stays to be seen');
  }, { expected: [/400 \(Bad Request\)/, /ERR_CONNECTION_REFUSED/, /ERR_EMPTY_RESPONSE/, /ERR_CONNECTION_RESET/] });
});
