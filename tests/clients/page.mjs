// Runs a page's script from standard input in a real Chromium, on the origin that the first argument names, and prints
// what it logs; ends when it has logged as many lines as the second says.
import { createRequire } from 'node:module';
import { text } from 'node:stream/consumers';

const require = createRequire(new URL('../browser/package.json', import.meta.url));
const { chromium } = require('playwright-core');
const PATIENCE_MS = 20_000;

const [origin, lines] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-sync'],
});
try {
  const page = await browser.newPage();
  let logged = 0;
  const all = new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error(`${logged} of ${lines} lines within ${PATIENCE_MS} ms`)), PATIENCE_MS).unref();
    page.on('pageerror', reject);
    page.on('console', (message) => {
      console.log(message.text());
      logged += 1;
      if (logged >= Number(lines)) resolve();
    });
  });
  await page.goto(origin);
  await page.evaluate(`(async () => {\n${await text(process.stdin)}\n})()`);
  await all;
} finally {
  await browser.close();
}
