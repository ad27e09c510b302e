// A person at a browser, step by step: headless Chromium with a profile of its own. Each line of stdin is a step
// {do, ...}, and each is answered by a line {url, title, text, history, value, error} of stdout, the page that is shown then.
//
//   goto url      opens an address, as if the person typed it or another program opened it
//   click name    presses the button or link of that name
//   fill placeholder text   types text into the field with that placeholder
//   await text    waits until the page has the text
//   shot path     writes a PNG file
//   dark on       has the system ask for dark pages, or for light ones
//   eval script   runs a script in the page, whose value is answered
//
// Environment: CHROMIUM names the browser, default /usr/bin/chromium; TAB_WIDTH the width of the window.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

const profile = mkdtempSync(join(tmpdir(), 'tab-'));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
  headless: true,
  ignoreHTTPSErrors: true,
  viewport: { width: Number(process.env.TAB_WIDTH || 900), height: 700 },
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
  ],
});
context.setDefaultTimeout(45_000);
const page = context.pages()[0] ?? await context.newPage();

const steps = {
  goto: s => page.goto(s.url),
  click: s => page.getByRole('button', { name: s.name, exact: true }).or(page.getByRole('link', { name: s.name, exact: true })).click(),
  fill: s => page.getByPlaceholder(s.placeholder).fill(s.text),
  await: s => page.getByText(s.text).first().waitFor(),
  shot: s => page.screenshot({ path: s.path }),
  dark: s => page.emulateMedia({ colorScheme: s.on ? 'dark' : 'light' }),
  eval: s => page.evaluate(s.script),
};

try {
  for await (const line of createInterface({ input: process.stdin })) {
    const step = JSON.parse(line);
    const answer = {};
    try {
      const value = await steps[step.do](step);
      if (step.do === 'eval') answer.value = JSON.stringify(value) ?? '';
      await page.waitForLoadState();
    } catch (error) {
      answer.error = String(error);
    }
    try {
      Object.assign(answer, {
        url: page.url(), title: await page.title(), text: await page.locator('body').innerText(),
        history: await page.evaluate(() => history.length),
      });
    } catch { // the page goes away at this moment
      answer.url = page.url();
    }
    process.stdout.write(JSON.stringify(answer) + '\n');
  }
} finally {
  await context.close();
  rmSync(profile, { recursive: true, force: true });
}
