// A person at a browser: headless Chromium opens an authorize URL, or a page that leads there, signs in on the
// page of oidc-provider or of zitadel's example, agrees, and lands wherever the server sends it.
//
//   node browser.mjs [FLAG...] URL
//
// Each FLAG is one of Chromium's. That of --user-data-dir=DIR keeps its profile, which is otherwise a new one.
// Environment: PERSON_DENIES=1 presses Cancel instead; PERSON_SCREENSHOT names a PNG file for the
// last page; PERSON_TRUSTS_ALL=1 takes any TLS certificate; CHROMIUM names the browser,
// default /usr/bin/chromium.
// stdout: one JSON line {url, title, text}; the url of the last page has no query.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const url = process.argv.at(-1);
const flags = process.argv.slice(2, -1);
const kept = flags.find(flag => flag.startsWith('--user-data-dir='))?.slice('--user-data-dir='.length);
const profile = kept ?? mkdtempSync(join(tmpdir(), 'person-'));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
  headless: true,
  ignoreHTTPSErrors: process.env.PERSON_TRUSTS_ALL === '1',
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
    ...flags.filter(flag => !flag.startsWith('--user-data-dir=')),
  ],
});
try {
  context.setDefaultTimeout(45_000);
  // The page asks for a web font; nothing but this machine is to be reached.
  await context.route(u => !isLoopback(u.hostname), route => route.abort());

  const page = context.pages()[0] ?? await context.newPage();
  await page.goto(url);
  const login = new URL(page.url()).origin; // the URL may be a page that only leads there
  const device = new URL(page.url()).pathname === '/device'; // RFC 8628: nothing leads away from there
  if (device) {
    await page.getByRole('heading', { name: 'Confirm Device' }).waitFor();
    await page.getByRole('button', { name: 'Continue' }).click();
  }
  if (await page.locator('#username').count()) { // zitadel's example, which asks no consent
    await page.locator('#username').fill('test-user@localhost');
    await page.locator('#password').fill('verysecure');
    await page.getByRole('button', { name: 'Login' }).click();
  } else if (process.env.PERSON_DENIES === '1') {
    await page.getByText('[ Cancel ]').click();
  } else {
    await page.getByPlaceholder('Enter any login').fill('ada');
    await page.getByPlaceholder('and password').fill('any');
    await page.getByRole('button', { name: 'Sign-in' }).click();
    await page.getByRole('button', { name: 'Continue' }).click();
  }
  if (device) await page.getByText('Sign-in Success').waitFor();
  else await page.waitForURL(u => u.origin !== login);
  await page.waitForLoadState();
  if (process.env.PERSON_SCREENSHOT) await page.screenshot({ path: process.env.PERSON_SCREENSHOT });

  const last = new URL(page.url());
  process.stdout.write(JSON.stringify({
    url: last.origin + last.pathname,
    title: await page.title(),
    text: await page.locator('body').innerText(),
  }) + '\n');
} finally {
  await context.close();
  if (!kept) rmSync(profile, { recursive: true, force: true });
}

function isLoopback(name) {
  return name === 'localhost' || name === '[::1]' || name.startsWith('127.') || name.endsWith('.internal');
}
