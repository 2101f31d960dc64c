// A simulator, a sidecar beside it, and a browser that shows the sidecar's page.

import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import { chromium } from 'playwright-core';

const ROOT = fileURLToPath(new URL('../../../../', import.meta.url));
const TARGET = join(process.env.CARGO_TARGET_DIR ?? join(ROOT, 'target'));
const PROGRAMS = join(TARGET, 'debug');
const PICTURES = join(TARGET, 'page');
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
/** How long anything may take to happen on a busy machine. */
const PATIENCE_MS = Number(process.env.PAGE_PATIENCE_MS ?? 60_000);

export const FULL_TOKEN = 'a-token-that-may-do-all';
export const READ_TOKEN = 'a-token-that-may-look';

/** The settings of a sidecar that wants a token. */
export const WITH_TOKENS = { AUTH__TOKENS: FULL_TOKEN, AUTH__READ_TOKENS_FILE: `file:${READ_TOKEN}` };

/** A program of ours that runs. */
class Program {
  constructor(name, args, env) {
    this.child = spawn(join(PROGRAMS, name), args, { env: { ...process.env, ...env } });
    this.ended = new Promise((resolve) => this.child.once('exit', resolve));
    this.said = [];
  }

  /** The first match in what it says, line by line. It is read to its end, so that the program never waits for us. */
  async finds(stream, pattern) {
    return new Promise((resolve, reject) => {
      createInterface({ input: this.child[stream] }).on('line', (line) => {
        this.said.push(line);
        const found = line.match(pattern);
        if (found) resolve(found[1]);
      });
      this.ended.then((code) => reject(new Error(`it ended with ${code}: ${this.said.join('\n')}`)));
    });
  }

  async end(signal = 'SIGKILL') {
    this.child.kill(signal);
    await this.ended;
  }
}

/** A sidecar beside a simulator, both on free ports. */
export class Stage {
  #folder = mkdtempSync(join(tmpdir(), 'page-'));

  /**
   * @param {[string, number][]} accounts e-mails and their slots
   * @param {{settings?: Record<string, string>, jobSeconds?: string}} [options] a value `file:…` is written to a file
   */
  static async set(accounts, { settings = {}, jobSeconds = '600..600' } = {}) {
    const stage = new Stage();
    // Each an argument of its own: the system takes none beyond 128 KiB.
    const listed = accounts.map(([email, slots]) => `--accounts=${email}=${slots}`);
    stage.sim = new Program('kling-sim', ['--listen', '127.0.0.1:0', '--job-seconds', jobSeconds, ...listed], {});
    stage.simUrl = await stage.sim.finds('stdout', /^(http:\S+)/);
    stage.sim.child.stderr.resume();
    stage.settings = settings;
    stage.address = '127.0.0.1:0';
    await stage.startSidecar();
    return stage;
  }

  /** Starts the sidecar, where the last one was. */
  async startSidecar() {
    const settings = {
      LISTEN: this.address,
      UPSTREAM__BASE_URL: this.simUrl,
      UPSTREAM__TOKEN: 'user:1-sim',
      RECONCILE__INTERVAL: '500ms',
      ...this.settings,
    };
    const env = {};
    for (const [name, value] of Object.entries(settings)) {
      const isFile = value.startsWith('file:');
      env[`KLB_${name}`] = isFile ? join(this.#folder, name) : value;
      if (isFile) writeFileSync(join(this.#folder, name), `${value.slice('file:'.length)}\n`);
    }
    this.sidecar = new Program('kling-balancer', [], env);
    this.sidecar.child.stdout.resume();
    this.address = await this.sidecar.finds('stderr', / serving .*\baddr=(\S+)/);
    this.url = `http://${this.address}`;
    await this.until('/readyz', (status) => status === 200);
  }

  async end() {
    await Promise.all([this.sidecar.end(), this.sim.end()]);
    rmSync(this.#folder, { recursive: true });
  }

  /** An answer of the sidecar, asked with the token that may do all. */
  ask(path, options = {}) {
    const headers = { Authorization: `Bearer ${FULL_TOKEN}`, ...options.headers };
    return fetch(this.url + path, { ...options, headers });
  }

  /** Asks until an answer passes `check`, which gets its status and its text. */
  async until(path, check) {
    const end = Date.now() + PATIENCE_MS;
    for (;;) {
      const answer = await this.ask(path);
      const text = await answer.text();
      if (check(answer.status, text)) return;
      if (Date.now() > end) throw new Error(`${path} still answers ${answer.status}: ${text}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Starts a job; only of `email` if that is given. */
  start(email, headers = {}, signal = undefined) {
    return this.ask('/v1/kling/videos/text2video', {
      method: 'POST', signal, body: JSON.stringify({ prompt: 'a paper boat', email }),
      headers: { 'Content-Type': 'application/json', 'x-kling-wait': '0s', ...headers },
    });
  }

  /** Starts a job as another tool does: past the sidecar. */
  async startElsewhere(email) {
    const started = await fetch(`${this.simUrl}/videos/text2video`, {
      method: 'POST',
      body: JSON.stringify({ prompt: 'a paper plane', email }),
      headers: { 'Content-Type': 'application/json', Authorization: 'Bearer user:1-sim' },
    });
    if (!started.ok) throw new Error(`the simulator answers ${started.status}`);
  }

  /** Tells the simulator something. */
  async tell(path, body) {
    const told = await fetch(new URL(`/_sim/${path}`, this.simUrl), { method: 'POST', body: JSON.stringify(body) });
    if (!told.ok) throw new Error(`the simulator answers ${told.status}`);
  }
}

/** The browser, for all tests of a file. */
export async function startBrowser() {
  return chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync',
    ],
  });
}

/**
 * Opens the page of a stage. What its console says is in `said`.
 * @param {{width?: number, height?: number, scheme?: 'light' | 'dark', token?: string}} [options]
 */
export async function open(browser, stage, { width = 1200, height = 900, scheme = 'light', token } = {}) {
  const context = await browser.newContext({
    viewport: { width, height },
    colorScheme: scheme,
    reducedMotion: 'reduce',
    timezoneId: 'Europe/Berlin',
    locale: 'en-GB',
  });
  context.setDefaultTimeout(PATIENCE_MS);
  const page = await context.newPage();
  page.said = [];
  page.on('console', (message) => page.said.push(message.text()));
  page.on('pageerror', (error) => page.said.push(String(error)));
  if (token) {
    await context.addInitScript((it) => sessionStorage.setItem('kling-balancer token', it), token);
  }
  await page.goto(stage.url);
  return page;
}

/** The row of an account. */
export function rowOf(page, email) {
  return page.locator('#accounts-rows tr').filter({ has: page.locator('th', { hasText: email }) });
}

/** Waits until the account is shown in this state. */
export async function untilState(page, email, state) {
  await rowOf(page, email).locator('.tag', { hasText: state }).waitFor();
}

/** What axe finds wrong with the page as it is. */
export async function violations(page) {
  await page.evaluate(AXE);
  const found = await page.evaluate(() => globalThis.axe.run());
  return found.violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(' ')}`);
}

/** Keeps a picture of the page as a file of the run. */
export async function picture(page, name, options = { fullPage: true }) {
  mkdirSync(PICTURES, { recursive: true });
  return page.screenshot({ path: join(PICTURES, `${name}.png`), animations: 'disabled', ...options });
}
