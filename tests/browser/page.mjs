// The playground as a person uses it: what can be done and seen on the page, by name.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { chromium } from 'playwright-core';

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];
export const PATIENCE_MS = 15_000;

export async function launch() {
  if (!existsSync(CHROMIUM)) throw new Error(`no Chromium at ${CHROMIUM}: install it, or set CHROMIUM`);
  return chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
}

export class Playground {
  // Every page has a context of its own, so two pages are two people. `prepare` may touch the page
  // before it loads; `down` says that the server may be away, and the browser will say so.
  static async open(browser, url, { query = '', prepare, down = false, ...options } = {}) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE_MS);
    const playground = new Playground(page, down);
    await page.addInitScript(() => {
      globalThis.violations = [];
      addEventListener('securitypolicyviolation', (event) =>
        globalThis.violations.push(`${event.violatedDirective} ${event.blockedURI}`),
      );
    });
    await prepare?.(page);
    const response = await page.goto(`${url}/${query}`);
    playground.policy = response.headers()['content-security-policy'] ?? '';
    return playground;
  }

  constructor(page, down) {
    this.page = page;
    this.complaints = [];
    page.on('pageerror', (error) => this.complaints.push(`uncaught: ${error.message}`));
    page.on('console', (message) => {
      const text = message.text();
      const refused = down && /WebSocket connection to .* failed/.test(text);
      if (['error', 'warning'].includes(message.type()) && !refused) this.complaints.push(text);
    });
  }

  phase(phase) {
    return this.page.locator(`body[data-phase="${phase}"]`).waitFor();
  }
  roomStatus(words) {
    return this.page.locator('#room-status', { hasText: words }).waitFor();
  }
  status() {
    return this.page.locator('.state-text').innerText();
  }
  position() {
    return this.page.locator('#position').innerText();
  }
  notice(tone) {
    return this.page.locator(`.notice[data-tone="${tone}"]`);
  }
  cutOrRestore() {
    return this.page.locator('#cut').click();
  }

  async joined() {
    await this.phase('live');
    await this.roomStatus('joined');
  }

  async say(text) {
    await this.page.locator('#text').fill(text);
    await this.page.locator('#send').click();
  }

  // The message that says exactly this.
  message(text, selector = '.message') {
    const exact = new RegExp(`^${text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}$`);
    return this.page.locator(selector, { has: this.page.locator('.text', { hasText: exact }) });
  }

  // Waits until it stands in the room under a number; until the server has acknowledged it.
  sees(text) {
    return this.message(text, '.message[data-seq]').first().waitFor();
  }
  acked(text) {
    return this.message(text, '.message[data-status="acked"][data-seq]').waitFor();
  }

  // What stands in the room, top to bottom; `stale` is what an earlier epoch held.
  messages() {
    return this.page.locator('.message').evaluateAll((nodes) =>
      nodes.map((node) => ({
        seq: Number(node.dataset.seq),
        author: node.querySelector('.author').textContent,
        text: node.querySelector('.text').textContent,
        stale: node.classList.contains('stale'),
      })),
    );
  }

  // Waits until the list of people is headed by this, as '2 people online'.
  online(words) {
    return this.page.locator('#people-title', { hasText: new RegExp(`^${words}$`) }).waitFor();
  }
  person(user) {
    return this.page.locator(`.person[data-user="${user}"]`);
  }
  // Waits until the list says this of someone, as 'Annie · away'.
  shows(user, words) {
    return this.person(user).locator('.says', { hasText: words }).waitFor();
  }
  gone(user) {
    return this.person(user).waitFor({ state: 'detached' });
  }
  // Who is listed, top to bottom.
  people() {
    return this.page.locator('.person').evaluateAll((nodes) => nodes.map((node) => node.dataset.user));
  }
  typing(words) {
    return this.page.locator('#typing', { hasText: words }).waitFor();
  }
  nobodyTypes(options = {}) {
    return this.page.locator('#typing:empty').waitFor({ state: 'attached', ...options });
  }

  // The frames on the wire panel, as data.
  frames() {
    return this.page
      .locator('.frame:not([data-dir="note"])')
      .evaluateAll((nodes) =>
        nodes.map((node) => ({
          dir: node.dataset.dir,
          ...JSON.parse(node.querySelector('pre').textContent),
        })),
      );
  }

  // Whatever could be scrolled sideways: the page, and every visible box that is wider inside than out.
  sideways() {
    return this.page.evaluate(() =>
      [document.documentElement, ...document.body.querySelectorAll('*')]
        .filter(
          (node) =>
            node.scrollWidth > node.clientWidth &&
            (node === document.documentElement || /auto|scroll/.test(getComputedStyle(node).overflowX)),
        )
        .map(
          (node) =>
            `${node.tagName}#${node.id}.${node.className}: ${node.scrollWidth} in ${node.clientWidth}`,
        ),
    );
  }

  // At the end of a story: the page was content with everything, and so was its policy.
  async close() {
    const violations = await this.page.evaluate(() => globalThis.violations);
    await this.page.context().close();
    assert.deepEqual({ complaints: this.complaints, violations }, { complaints: [], violations: [] });
  }
}
