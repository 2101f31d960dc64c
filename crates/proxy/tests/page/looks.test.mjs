// How the page looks: pictures of it, what axe finds, from 360 pixels to 4k, with one account and with 10,000.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { Stage, open, picture, rowOf, startBrowser, untilState, violations } from './stage.mjs';

const LONG = `${'a-very-long-name-without-a-place-to-break-it'.repeat(4)}@example.com`;
const SIZES = [
  { name: 'light', width: 1200, height: 900, scheme: 'light' },
  { name: 'dark', width: 1200, height: 900, scheme: 'dark' },
  { name: 'narrow-light', width: 360, height: 740, scheme: 'light' },
  { name: 'narrow-dark', width: 360, height: 740, scheme: 'dark' },
  { name: '4k', width: 3840, height: 2160, scheme: 'light' },
];

let browser;
before(async () => {
  browser = await startBrowser();
});
after(() => browser?.close());

async function isNotScrolledSideways(page) {
  return page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth);
}

/** A studio at work, with a bit of everything. */
async function studio(more = [LONG]) {
  const names = ['anna', 'ben', 'clara', 'dan', 'eve', 'finn'];
  const accounts = names.map((name, place) => [`${name}@example.com`, 2 + place]);
  const stage = await Stage.set([...accounts, ...more.map((name) => [name, 2])]);
  await stage.tell('faults', { effect: { status: 596 }, on: 'jobStarts', account: 'ben@example.com', times: 1 });
  await stage.tell('faults', { effect: 'resetAfter', on: 'jobStarts', account: 'dan@example.com', times: 1 });
  for (const [name, count] of [['anna', 2], ['ben', 1], ['clara', 2], ['dan', 2], ['finn', 3]]) {
    for (let i = 0; i < count; i += 1) await stage.start(`${name}@example.com`);
  }
  for (const name of more) await stage.start(name);
  await stage.startElsewhere('eve@example.com');
  await stage.ask('/accounts/clara@example.com/drain', { method: 'POST' });
  return stage;
}

test('axe finds nothing, and nothing needs scrolling sideways, in both schemes at every size', async () => {
  const stage = await studio();
  const waiting = new AbortController();
  stage.start('anna@example.com', { 'x-kling-wait': '10m' }, waiting.signal).catch(() => {});
  try {
    for (const { name, ...options } of SIZES) {
      const page = await open(browser, stage, options);
      await untilState(page, 'ben@example.com', 'quarantined');
      await page.locator('#queue-rows tr').waitFor();
      await page.locator('#calls-rows tr').first().waitFor();
      assert.deepEqual(await violations(page), [], name);
      assert.ok(await isNotScrolledSideways(page), name);
      await page.getByText('As a table').click();
      assert.deepEqual(await violations(page), [], `${name}, with the table of the last hour`);
      await page.getByText('As a table').click();
      await picture(page, name);
      const release = page.getByRole('button', { name: 'Release the slot of clara@example.com' }).first();
      await release.click();
      assert.deepEqual(await violations(page), [], `${name}, with the dialog`);
      await picture(page, `${name}-dialog`, {});
      await page.context().close();
    }
  } finally {
    waiting.abort();
    await stage.end();
  }
});

test('no width needs scrolling sideways', async () => {
  const stage = await studio();
  try {
    const page = await open(browser, stage);
    await page.locator('#calls-rows tr').first().waitFor();
    for (let width = 320; width <= 3840; width = Math.ceil(width * 1.07)) {
      await page.setViewportSize({ width, height: 800 });
      assert.ok(await isNotScrolledSideways(page), `${width} px`);
    }
    await page.context().close();
  } finally {
    await stage.end();
  }
});

/** A sidecar that has just started has no hour to show: this one is made up. */
function hourUntil(now) {
  return Array.from({ length: 60 }, (_, minute) => ({
    at: new Date(now - (60 - minute) * 60_000).toISOString(),
    inFlight: Math.round(12 + 9 * Math.sin(minute / 8) + 3 * Math.sin(minute / 2)),
    max: minute < 25 ? 22 : 27,
    waiting: Math.max(0, Math.round(5 * Math.sin(minute / 8 - 0.4) - 1)),
  }));
}

test('the picture of the README is made', async () => {
  const stage = await studio([]);
  const waiting = new AbortController();
  stage.start('anna@example.com', { 'x-kling-wait': '10m' }, waiting.signal).catch(() => {});
  try {
    const page = await open(browser, stage, { width: 1200, height: 1060 });
    await page.route(/status$/, async (route) => {
      const answer = await route.fetch({ headers: { ...route.request().headers(), 'if-none-match': '' } });
      await route.fulfill({ response: answer, json: { ...(await answer.json()), history: hourUntil(Date.now()) } });
    });
    await page.locator('#chart-start', { hasText: '1 h ago' }).waitFor();
    await page.locator('#queue-rows tr').waitFor();
    await rowOf(page, 'eve@example.com').getByText('1 of other tools').waitFor();
    await picture(page, 'dashboard', {});
    await page.context().close();
  } finally {
    waiting.abort();
    await stage.end();
  }
});

test('10,000 accounts are searched, ordered and paged through, 50 at a time', async () => {
  const emails = Array.from({ length: 10_000 }, (_, place) => `studio-${String(place).padStart(5, '0')}@example.com`);
  const stage = await Stage.set(emails.map((email) => [email, 3]));
  try {
    const page = await open(browser, stage);
    const rows = page.locator('#accounts-rows tr');
    const where = page.getByRole('navigation', { name: 'Pages of accounts' }).locator('span');
    await where.filter({ hasText: /^1 to 50 of 10,000$/ }).waitFor();
    assert.equal(await rows.count(), 50);
    const pages = page.getByRole('navigation', { name: 'Pages of accounts' });
    await pages.getByRole('button', { name: 'Next' }).click();
    await where.filter({ hasText: /^51 to 100 of 10,000$/ }).waitFor();
    await rows.filter({ hasText: emails[50] }).waitFor();
    await page.mouse.wheel(0, 20_000);
    await page.getByLabel('Search', { exact: true }).fill(emails[9_876].slice(0, 12));
    await page.locator('#accounts-count', { hasText: /^1 match. 10,000 accounts/ }).waitFor();
    assert.deepEqual(await rows.locator('th').allTextContents().then((it) => it.map((text) => text.slice(0, 24))),
      [emails[9_876]]);
    await page.getByRole('button', { name: `Drain ${emails[9_876]}` }).click();
    await untilState(page, emails[9_876], 'draining');
    await page.getByLabel('Search', { exact: true }).fill('');
    await rows.first().filter({ hasText: emails[9_876] }).waitFor();
    await page.getByRole('button', { name: 'Account', exact: true }).click();
    await rows.first().filter({ hasText: emails[0] }).waitFor();
    assert.ok(await isNotScrolledSideways(page));
    assert.deepEqual(await violations(page), []);
    await picture(page, 'many', {});
    await page.context().close();
  } finally {
    await stage.end();
  }
});
