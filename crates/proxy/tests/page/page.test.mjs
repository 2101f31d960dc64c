// What the page shows of a sidecar at work, and what its buttons do.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { Stage, open, rowOf, startBrowser, untilState } from './stage.mjs';

/** Would run as a script and change the title, if it ever became markup. */
const MARKUP = "<img/src=x/onerror=document.title='owned'>@x";

let browser;
let stage;
const waiter = new AbortController();

/** Full, quarantined, parked and idle accounts, and a call that waits. */
before(async () => {
  browser = await startBrowser();
  stage = await Stage.set([['full@x', 1], ['broken@x', 1], ['poor@x', 1], ['idle@x', 3], [MARKUP, 2]]);
  await stage.tell('faults', { effect: { status: 596 }, on: 'jobStarts', account: 'broken@x', times: 1 });
  await stage.tell('accounts/poor@x', { hasCredit: false });
  assert.equal((await stage.start('full@x')).status, 200);
  assert.equal((await stage.start(MARKUP, { 'x-request-id': 'the-first' })).status, 200);
  assert.equal((await stage.start('broken@x')).status, 596);
  assert.equal((await stage.start('poor@x')).status, 412);
  stage.start('full@x', { 'x-kling-wait': '10m' }, waiter.signal).catch(() => {});
  await stage.until('/status', (_status, text) => JSON.parse(text).waiting.count === 1);
});

after(async () => {
  waiter.abort();
  await browser?.close();
  await stage?.end();
});

test('the page loads under its policy with an empty console', async () => {
  const page = await open(browser, stage);
  assert.equal(new URL(page.url()).pathname, '/dashboard');
  await untilState(page, 'full@x', 'full');
  await page.locator('#calls-rows tr').first().waitFor();
  assert.equal(await page.locator('#health').textContent(), 'Ready: jobs can be started.');
  assert.deepEqual(page.said, []);
  // What the policy forbids is forbidden: a script in the page, and markup made of a string.
  const isRefused = await page.evaluate(() => {
    const script = document.createElement('script');
    try {
      script.textContent = 'globalThis.ran = true';
      document.body.append(script);
      document.body.insertAdjacentHTML('beforeend', '<p id="made">made</p>');
    } catch {
      // As it should be.
    }
    return !globalThis.ran && !document.getElementById('made');
  });
  assert.ok(isRefused);
  await page.context().close();
});

test('states, slots, the waiter and events are shown, the worst account first', async () => {
  const page = await open(browser, stage);
  await untilState(page, 'broken@x', 'quarantined');
  await untilState(page, 'poor@x', 'parked');
  await untilState(page, 'idle@x', 'available');
  const broken = await rowOf(page, 'broken@x').innerText();
  assert.match(broken, /its session is broken/);
  assert.match(broken, /for \d+ s\s+(9 min \d+ s|10 min) more/);
  assert.match(broken, /Last refusal, 596, \d+ s ago: “Error”/);
  assert.match(await rowOf(page, 'full@x').innerText(), /1 started/);
  assert.match(await rowOf(page, 'full@x').textContent(), /1 of 1/);
  const order = await page.locator('#accounts-rows .tag').allTextContents();
  assert.deepEqual(order, ['quarantined', 'parked', 'full', 'available', 'available']);
  await page.locator('#slots-rows tr', { hasText: 'full@x' }).getByText('job runs').waitFor();
  const waiting = page.locator('#queue-rows tr');
  await waiting.filter({ hasText: 'full@x' }).waitFor();
  assert.equal(await waiting.count(), 1);
  const figures = await page.locator('.figures').innerText();
  assert.match(figures, /Slots in use\s+2 of 8.*Calls that wait\s+1\s+the longest for/s);
  const slot = await page.locator('#slots-rows tr', { hasText: MARKUP }).innerText();
  assert.match(slot, /text2video.*the-first/s);
  const events = page.locator('#events-list li');
  await events.filter({ hasText: 'account state' }).filter({ hasText: 'broken@x is quarantined' }).waitFor();
  await events.filter({ hasText: 'job started' }).filter({ hasText: 'request the-first' }).waitFor();
  await events.filter({ hasText: 'list changed' }).filter({ hasText: 'added: full@x (1), broken@x (1)' }).waitFor();
  await page.locator('#restart', { hasText: 'No' }).waitFor();
  await page.locator('#restart-because', { hasText: '1 call waiting for a slot' }).waitFor();
  await page.context().close();
});

test('the median duration of an account is that of its jobs that ended', async () => {
  const page = await open(browser, stage);
  let id = Number.MAX_SAFE_INTEGER - 9;
  const at = new Date().toISOString();
  const ended = (result, durationMs) => (
    { id: (id += 1), at, type: 'job-ended', message: 'over', email: 'idle@x', result, durationMs });
  const events = [ended('succeeded', 300_000), ended('failed', 120_000), ended('succeeded', 60_000), ended('unknown', 1)];
  await page.route(/status$/, async (route) => {
    const answer = await route.fetch({ headers: { ...route.request().headers(), 'if-none-match': '' } });
    await route.fulfill({ response: answer, json: { ...(await answer.json()), events } });
  });
  await rowOf(page, 'idle@x').getByText('median 2 min').waitFor();
  assert.doesNotMatch(await rowOf(page, 'full@x').innerText(), /median/);
  await page.context().close();
});

test('drain and resume are done by their buttons', async () => {
  const page = await open(browser, stage);
  for (const email of ['idle@x', MARKUP]) {
    await rowOf(page, email).getByRole('button', { name: `Drain ${email}` }).click();
    await untilState(page, email, 'draining');
    const drained = await (await stage.ask(`/accounts/${encodeURIComponent(email)}`)).json();
    assert.equal(drained.state, 'draining');
    await rowOf(page, email).getByRole('button', { name: `Resume ${email}` }).click();
    await untilState(page, email, 'available');
  }
  await rowOf(page, 'broken@x').getByRole('button', { name: 'Resume' }).click();
  await untilState(page, 'broken@x', 'available');
  assert.match(await page.locator('#notice').textContent(), /broken@x: is used again/);
  assert.deepEqual(page.said, []);
  await page.context().close();
});

test('an e-mail full of markup is text', async () => {
  const page = await open(browser, stage);
  await rowOf(page, MARKUP).waitFor();
  await page.locator('#calls-rows tr', { hasText: 'onerror' }).waitFor();
  assert.equal(await page.locator('img').count(), 0);
  assert.match(await page.title(), /kling-balancer/);
  await page.context().close();
});

test('a call is found by its request id', async () => {
  const page = await open(browser, stage);
  await page.getByLabel('What to search for').fill('the-first');
  await page.getByLabel('What to search for').press('Enter');
  await page.locator('#calls-count', { hasText: '1 call found' }).waitFor();
  const found = await page.locator('#calls-rows tr').allTextContents();
  assert.equal(found.length, 1);
  assert.match(found[0], /accepted.*yes/);
  // The vendor's ids are digits.
  await page.getByLabel('Search by').selectOption('task id');
  await page.getByLabel('What to search for').fill('no-task');
  await page.getByRole('search', { name: 'Calls' }).getByRole('button', { name: 'Search' }).click();
  await page.locator('#calls-count', { hasText: 'expected digits' }).waitFor();
  await page.context().close();
});

test('what failed is shown alone', async () => {
  const page = await open(browser, stage);
  await page.locator('#calls-count', { hasText: 'in the last 10 min' }).waitFor();
  const all = await page.locator('#calls-rows tr').count();
  await page.getByLabel('Only failed ones').check();
  await page.locator('#calls-count', { hasText: `2 failed of ${all} calls in the last 24 h` }).waitFor();
  const failed = await page.locator('#calls-rows tr').allTextContents();
  assert.match(failed.join('\n'), /no credit.*\n.*session is broken/);
  await page.context().close();
});

test('where no slot is free, it is told when one is expected', async () => {
  const full = await Stage.set([['a@x', 1], ['b@x', 1]]);
  try {
    await full.start('a@x');
    const page = await open(browser, full);
    await untilState(page, 'a@x', 'full');
    assert.equal(await page.locator('#slots-next').textContent(), '');
    await full.start('b@x');
    await page.locator('#slots-next', { hasText: /^the next is free in about \d+ (min|s)/ }).waitFor();
    await page.context().close();
  } finally {
    await full.end();
  }
});

test('a slot is released once that is confirmed', async () => {
  const pick = await (await stage.ask('/pick?email=idle@x&ttl=10m', { method: 'POST' })).json();
  const page = await open(browser, stage);
  const row = page.locator('#slots-rows tr', { hasText: 'idle@x' });
  await row.getByRole('button', { name: 'Release' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Keep it' }).click();
  assert.equal((await stage.ask(`/leases/${pick.leaseId}`)).status, 200);
  await row.getByRole('button', { name: 'Release' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Release the slot' }).click();
  await row.waitFor({ state: 'detached' });
  assert.equal((await stage.ask(`/leases/${pick.leaseId}`)).status, 404);
  // The button that had the focus is gone.
  assert.equal(await page.evaluate(() => document.activeElement.id), 'slots-heading');
  await page.context().close();
});

test('the page is used with the keyboard alone, and keeps the focus while it is redrawn', async () => {
  const page = await open(browser, stage);
  await untilState(page, 'idle@x', 'available');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  assert.equal(new URL(page.url()).hash, '#accounts');
  const focused = () => page.evaluate(() => document.activeElement.getAttribute('aria-label')
    ?? document.activeElement.id ?? '');
  const tabTo = async (name) => {
    for (let steps = 0; (await focused()) !== name; steps += 1) {
      assert.ok(steps < 60, `no way to ${name}`);
      await page.keyboard.press('Tab');
    }
  };
  await tabTo('accounts-search');
  await page.keyboard.type('idle@x');
  await tabTo('Drain idle@x');
  await page.keyboard.press('Enter');
  await untilState(page, 'idle@x', 'draining');
  assert.equal(await focused(), 'Resume idle@x');
  // Something else happens, and the page shows it.
  await stage.ask(`/accounts/${encodeURIComponent(MARKUP)}/drain`, { method: 'POST' });
  await page.locator('#accounts-count', { hasText: '2 draining' }).waitFor();
  assert.equal(await focused(), 'Resume idle@x');
  await page.keyboard.press('Enter');
  await untilState(page, 'idle@x', 'available');
  assert.equal(await focused(), 'Drain idle@x');
  await stage.ask(`/accounts/${encodeURIComponent(MARKUP)}/resume`, { method: 'POST' });
  await page.context().close();
});
