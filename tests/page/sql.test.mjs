// Asking: an answer as a table, a chart and a plan, errors, completion, history.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { cell, close, open, until } from './browser.mjs';
import { someClicks, start } from './server.mjs';

let server;
before(async () => {
  server = await start();
  await server.ingest('clicks', someClicks(300));
});
after(async () => { await close(); await server[Symbol.asyncDispose](); });

const ask = async (page, statement) => {
  await page.getByRole('textbox', { name: /SQL query/ }).fill(statement);
  await page.keyboard.press('Control+Enter');
};
/** What is refused is told by the console of the browser too. */
const refused = { expected: [/\b40[04] \(.*v1\/sql$/] };

test('a query is answered as a table, a chart and a plan, and says what it is made of', async () => {
  await open(server, '#/sql', async (page) => {
    await ask(page, 'SELECT page, clicks FROM clicks_by_page ORDER BY page');
    await until(() => cell(page, 'The answer', '/cart', 'clicks'), '100');
    assert.match(await page.locator('.made').textContent(), /Made of clicks_by_page: 0 offsets from the batch view or archive, 300 from the speed layer/);
    await page.getByRole('tab', { name: 'Chart' }).click();
    assert.equal(await page.locator('.bars i').count(), 3);
    await page.getByRole('tab', { name: 'Plan' }).click();
    await until(() => page.locator('.plan').first().textContent(), (text) => text.includes('count_merge'));
    assert.equal(await page.locator('.past li').count(), 1);
    await page.reload();
    assert.match(await page.locator('.past li').first().textContent(), /SELECT page, clicks FROM clicks_by_page ORDER BY page3 rows/);
  });
});

test('an error is told in the words of the server, with its place', async () => {
  await open(server, '#/sql', async (page) => {
    await ask(page, 'SELECT page\nFORM clicks_by_page WHERE');
    const alert = page.getByRole('alert');
    await until(() => alert.textContent(), (text) => text.includes('Expected') && text.includes('Line: 2'));
    assert.match(await alert.textContent(), /^This query cannot be answered/);
    assert.match(await page.locator('.excerpt').textContent(), /\^$/);
    await ask(page, 'SELECT clicks FROM nights');
    await until(() => alert.textContent(), (text) => text.includes('clicks_by_page'));
    await ask(page, 'SELECT 1 AS one');
    await until(() => cell(page, 'The answer', '1', 'one'), '1');
    assert.equal(await alert.count(), 0, 'it goes with the next answer');
  }, refused);
});

test('names are completed by the keyboard alone', async () => {
  await open(server, '#/sql', async (page) => {
    const editor = page.getByRole('textbox', { name: /SQL query/ });
    await page.getByText('clicks_rejected').waitFor();
    await editor.fill('SELECT page FROM clicks_by_page WHERE ');
    await editor.pressSequentially('cli');
    await until(() => page.getByRole('option').first().textContent(), 'clicksclicks_by_page');
    await editor.fill('');
    await editor.pressSequentially('SELECT * FROM clicks_by');
    await until(() => page.getByRole('option').first().textContent(), (text) => text.startsWith('clicks_by_page'));
    await page.keyboard.press('Tab');
    assert.equal(await editor.inputValue(), 'SELECT * FROM clicks_by_page');
    await editor.pressSequentially(' c WHERE c.tot');
    await until(() => page.getByRole('option').allTextContents(), (found) => found.length === 1 && found[0].startsWith('total_ms'));
    await page.keyboard.press('ArrowDown');
    assert.ok(await editor.getAttribute('aria-activedescendant'));
    await page.keyboard.press('Enter');
    assert.equal(await editor.inputValue(), 'SELECT * FROM clicks_by_page c WHERE c.total_ms');
    await editor.pressSequentially(" = 'sel");
    assert.equal(await page.getByRole('listbox').isVisible(), false, 'nothing is offered inside a text');
    await editor.fill('SELECT 1 AS one');
    await page.keyboard.press('Control+Enter');
    await until(() => cell(page, 'The answer', '1', 'one'), '1');
    await page.getByRole('tab', { name: 'Table' }).focus();
    await page.keyboard.press('ArrowRight');
    assert.equal(await page.getByRole('tab', { name: 'Chart' }).getAttribute('aria-selected'), 'true');
  });
});

test('all digits of a number are shown', async () => {
  await open(server, '#/sql', async (page) => {
    await ask(page, "SELECT 9007199254740993 AS n, CAST('12345678901234567890.12' AS DECIMAL(30, 2)) AS d, NULL AS nothing");
    await until(() => page.locator('.result-body tbody tr').textContent(), '9,007,199,254,740,99312345678901234567890.12null');
  });
});

test('an answer is saved as CSV', async () => {
  await open(server, '#/sql', async (page) => {
    await ask(page, 'SELECT page, clicks FROM clicks_by_page ORDER BY page LIMIT 1');
    const saved = page.waitForEvent('download');
    await page.getByRole('button', { name: 'Save as CSV' }).click();
    const chunks = [];
    for await (const chunk of await (await saved).createReadStream()) chunks.push(chunk);
    assert.equal(Buffer.concat(chunks).toString(), 'page,clicks\n/cart,100\n');
  });
});
