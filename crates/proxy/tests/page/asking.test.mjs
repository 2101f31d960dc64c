// How the page asks: who may, how often, and what it makes of silence.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import {
  FULL_TOKEN, READ_TOKEN, Stage, WITH_TOKENS, open, picture, rowOf, startBrowser, untilState, violations,
} from './stage.mjs';

let browser;
before(async () => {
  browser = await startBrowser();
});
after(() => browser?.close());

/** Runs a test beside a stage of its own. */
function staged(name, options, run) {
  test(name, async () => {
    const stage = await Stage.set([['a@x', 2], ['b@x', 1]], options);
    try {
      await run(stage);
    } finally {
      await stage.end();
    }
  });
}

staged('a read token shows no buttons, and is refused nothing', { settings: WITH_TOKENS }, async (stage) => {
  const page = await open(browser, stage, { token: READ_TOKEN });
  await untilState(page, 'a@x', 'available');
  await page.getByText('This token may only look.').waitFor();
  await page.locator('#calls-count', { hasText: '0 calls' }).waitFor();
  assert.equal(await rowOf(page, 'a@x').getByRole('button').count(), 0);
  assert.deepEqual(await violations(page), []);
  await picture(page, 'read-only');
  assert.deepEqual(page.said, []);
  await page.context().close();
});

staged('a token is asked for, kept in this tab, and forgotten', { settings: WITH_TOKENS }, async (stage) => {
  const page = await open(browser, stage);
  await page.locator('#health', { hasText: 'The sidecar wants a token.' }).waitFor();
  assert.equal(await page.locator('#picture').isVisible(), false);
  assert.deepEqual(await violations(page), []);
  await picture(page, 'token');
  await page.getByLabel('Token').fill('not-the-right-token');
  await page.keyboard.press('Enter');
  await page.locator('#health', { hasText: 'This token is not known here.' }).waitFor();
  await page.getByLabel('Token').fill(FULL_TOKEN);
  await page.keyboard.press('Enter');
  await untilState(page, 'a@x', 'available');
  await page.reload();
  await rowOf(page, 'a@x').getByRole('button', { name: 'Drain' }).click();
  await untilState(page, 'a@x', 'draining');
  assert.ok(!page.url().includes(FULL_TOKEN));
  assert.equal(await page.evaluate(() => localStorage.length + document.cookie.length), 0);
  await page.getByRole('button', { name: 'Forget the token' }).click();
  await page.locator('#health', { hasText: 'The sidecar wants a token.' }).waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  assert.equal(await page.locator('#accounts-rows').isVisible(), false);
  await page.context().close();
});

staged('an unchanged picture is not sent again', {}, async (stage) => {
  const page = await open(browser, stage);
  const unchanged = await page.waitForResponse((answer) => answer.status() === 304);
  assert.equal(new URL(unchanged.url()).pathname, '/status');
  assert.match(unchanged.request().headers()['if-none-match'], /^"/);
  await untilState(page, 'a@x', 'available');
  await stage.ask('/accounts/a@x/drain', { method: 'POST' });
  await untilState(page, 'a@x', 'draining');
  assert.deepEqual(page.said, []);
  await page.context().close();
});

staged('a page that is not visible asks nothing', {}, async (stage) => {
  const page = await open(browser, stage);
  await untilState(page, 'a@x', 'available');
  let asked = 0;
  page.on('request', () => {
    asked += 1;
  });
  const turn = (isHidden) => page.evaluate((it) => {
    Object.defineProperty(document, 'hidden', { configurable: true, value: it });
    document.dispatchEvent(new Event('visibilitychange'));
  }, isHidden);
  const answered = page.waitForResponse(/status$/);
  await page.clock.install();
  await answered;
  await turn(true);
  // What was under way when it was hidden is over.
  await page.clock.runFor(1000);
  asked = 0;
  await page.clock.runFor(600_000);
  assert.equal(asked, 0);
  await turn(false);
  await page.waitForResponse(/status$/);
  await page.context().close();
});

staged('a sidecar that is gone is told as such, and found again by itself', {}, async (stage) => {
  const page = await open(browser, stage);
  await untilState(page, 'a@x', 'available');
  await stage.sidecar.end();
  await page.locator('#health', { hasText: /^No answer from the sidecar since .*: it cannot be reached/ }).waitFor();
  await page.locator('#picture.gone').waitFor();
  assert.equal(await page.locator('#accounts-rows tr').count(), 2);
  for (const colorScheme of ['dark', 'light']) {
    await page.emulateMedia({ colorScheme });
    assert.deepEqual(await violations(page), [], colorScheme);
    await picture(page, `gone-${colorScheme}`);
  }
  // What cannot be done now is not tried.
  const drain = rowOf(page, 'a@x').getByRole('button', { name: 'Drain' });
  assert.equal(await drain.getAttribute('aria-disabled'), 'true');
  await drain.click({ force: true });
  assert.equal(await page.locator('#notice').textContent(), '');
  await stage.startSidecar();
  await page.locator('#health', { hasText: 'Ready' }).waitFor();
  assert.equal(await page.locator('#picture.gone').count(), 0);
  await rowOf(page, 'a@x').getByRole('button', { name: 'Drain' }).click();
  await untilState(page, 'a@x', 'draining');
  await page.context().close();
});

staged('an answer that does not come is given up, and asked for again', {}, async (stage) => {
  const page = await open(browser, stage);
  await untilState(page, 'a@x', 'available');
  const asked = page.waitForRequest(/status$/);
  await page.clock.install();
  await page.route(/status$/, () => {});
  await asked;
  await page.waitForRequest(/status$/);
  await page.clock.runFor(10_000);
  await page.locator('#health', { hasText: 'nothing came within 10 s' }).waitFor();
  await page.unroute(/status$/);
  await page.clock.runFor(1000);
  await page.locator('#health', { hasText: 'Ready' }).waitFor();
  await page.context().close();
});

staged('ages do not depend on the clock of the browser', {}, async (stage) => {
  const context = await browser.newContext();
  await context.addInitScript(() => {
    const now = Date.now.bind(Date);
    Date.now = () => now() + 3 * 3_600_000;
  });
  const page = await context.newPage();
  await page.goto(stage.url);
  await page.locator('#up-since', { hasText: 'up for' }).waitFor();
  assert.match(await page.locator('#up-since').textContent(), /^up for (\d+ s|\d min( \d+ s)?)$/);
  assert.match(await page.locator('#list-at').textContent(), /^(\d+ s|\d min( \d+ s)?) ago$/);
  await context.close();
});
