// Plays a page in a real browser and takes its pictures: node browser.mjs PAGE OUT CASES
//   PAGE   an .html file of gs4d, with motion in it
//   OUT    a folder for pictures: case_{i}.png (as the page saves it), screen_{i}.png (the window), and the page in use
//   CASES  a JSON file, [{"t", "azimuth", "elevation", "radius"}, ...]
// Fails when the page logs an error, asks for anything outside itself, or does not do what its controls say.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const FLAGS = [
  "--no-sandbox",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const [path, out, casesPath] = process.argv.slice(2);
const cases = JSON.parse(readFileSync(casesPath, "utf8"));
const address = pathToFileURL(path).href;
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });

// Reduced motion: the camera goes where it is sent without the frames in between, which are slow without a GPU.
async function open(hash, options) {
  const context = await browser.newContext({ reducedMotion: "reduce", ...options });
  const page = await context.newPage();
  const wrong = [];
  page.on("console", (message) => message.type() === "error" && wrong.push(message.text()));
  page.on("pageerror", (error) => wrong.push(String(error)));
  page.on("request", (request) => {
    const url = request.url();
    if (url.split("#")[0] !== address && !/^(blob|data):/.test(url)) wrong.push(`asks for ${url}`);
  });
  await page.goto(address + hash);
  await page.evaluate(() => window.gs4d.ready);
  return { page, end: async () => (await context.close(), assert.deepEqual(wrong, [])) };
}

const state = (page) => page.evaluate(() => ({ time: gs4d.getTime(), camera: gs4d.getCamera() }));
const settled = (page) => page.evaluate(() => gs4d.settled());
const look = (page, name) => page.screenshot({ path: join(out, `${name}.png`) });

/** Mean absolute difference of two PNGs, 0-255, over all channels. */
const difference = (page, a, b) =>
  page.evaluate(
    async (both) => {
      const [x, y] = await Promise.all(
        both.map(async (base64) => {
          const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
          const image = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
          const context = new OffscreenCanvas(image.width, image.height).getContext("2d");
          context.drawImage(image, 0, 0);
          return context.getImageData(0, 0, image.width, image.height).data;
        }),
      );
      return x.reduce((sum, value, i) => sum + Math.abs(value - y[i]), 0) / x.length;
    },
    [a.toString("base64"), b.toString("base64")],
  );

// What it draws: the same picture in a file and in the window.
{
  const { page, end } = await open("#ui=0&t=0", { viewport: { width: 512, height: 512 } });
  for (const [i, { t, azimuth, elevation, radius }] of cases.entries()) {
    const bytes = await page.evaluate(
      async ([time, camera]) => {
        gs4d.setTime(time);
        gs4d.setCamera(camera);
        await gs4d.settled();
        const buffer = await (await gs4d.picture(512, 512)).arrayBuffer();
        return Array.from(new Uint8Array(buffer));
      },
      [t, { azimuth, elevation, radius }],
    );
    writeFileSync(join(out, `case_${i}.png`), Buffer.from(bytes));
    await look(page, `screen_${i}`);
  }
  await end();
}

// The controls, at the size of a desktop.
{
  const { page, end } = await open("#t=0&az=20&el=10&r=1.7", { viewport: { width: 1000, height: 640 } });
  assert.deepEqual((await state(page)).time, 0, "the address says the time, so nothing plays");
  await look(page, "desktop");
  const before = await page.screenshot();
  assert.ok((await difference(page, before, await page.screenshot())) < 1e-3, "a still page stands still");
  const slider = await page.locator("#slider").boundingBox();
  await page.mouse.click(slider.x + slider.width * 0.6, slider.y + slider.height / 2);
  await settled(page);
  assert.ok(Math.abs((await state(page)).time - 0.6) < 0.03, "the slider sets the time");
  await page.locator("#canvas").focus();
  assert.ok((await difference(page, before, await page.screenshot())) > 0.2, "the slider moves the object");

  await page.waitForFunction(() => location.hash.includes("t=0.6") || location.hash.includes("t=0.59"));
  await page.keyboard.press("Home");
  assert.equal((await state(page)).time, 0);
  await page.keyboard.press("ArrowRight");
  const frame = (await state(page)).time;
  assert.ok(frame > 0 && frame < 0.5, "the arrow goes one frame on");
  await page.keyboard.press("Space");
  await page.waitForFunction((t) => gs4d.getTime() !== t, frame);
  await page.keyboard.press("Space");
  const paused = await state(page);
  await page.waitForTimeout(100);
  assert.equal((await state(page)).time, paused.time, "paused is paused");

  await page.mouse.move(400, 300);
  await page.mouse.down();
  await page.mouse.move(500, 260, { steps: 4 });
  await page.mouse.up();
  await settled(page);
  const turned = (await state(page)).camera;
  assert.ok(turned.azimuth < paused.camera.azimuth - 5 && turned.elevation < paused.camera.elevation - 2, "dragging turns");
  await page.mouse.wheel(0, 300);
  await settled(page);
  assert.ok((await state(page)).camera.radius > turned.radius * 1.2, "the wheel zooms");
  await page.mouse.down({ button: "right" });
  await page.mouse.move(540, 300, { steps: 3 });
  await page.mouse.up({ button: "right" });
  await settled(page);
  assert.ok((await state(page)).camera.target.some((v) => v !== 0), "the right button moves");
  await page.keyboard.press("c");
  await settled(page);
  await look(page, "gizmo");
  assert.ok((await page.locator("#frustum path").getAttribute("d")).length > 50, "the input camera is drawn");
  await page.keyboard.press("r");
  await settled(page);
  const start = (await state(page)).camera;
  assert.deepEqual([start.azimuth, start.elevation, start.radius, ...start.target], [20, 10, 1.7, 0, 0, 0], "back to the start");
  await page.keyboard.press("i");
  await settled(page);
  const home = (await state(page)).camera;
  assert.deepEqual([home.azimuth, home.elevation, home.radius, ...home.target], [0, 0, 1.5, 0, 0, 0], "back to the input camera");

  await page.locator("#background").click();
  await look(page, "backgrounds");
  await page.locator("[data-background=checker]").click();
  await settled(page);
  const [download] = await Promise.all([page.waitForEvent("download"), page.locator("#picture").click()]);
  await download.saveAs(join(out, "saved.png"));
  await page.locator("#ask").click();
  await look(page, "help");
  await page.keyboard.press("Escape");
  await page.evaluate(() => (location.hash = "#t=0.25&az=-30&el=5&r=2"));
  await page.waitForFunction(() => gs4d.getTime() === 0.25 && gs4d.getCamera().azimuth === -30);
  const unnamed = await page.evaluate(() =>
    [...document.querySelectorAll("button, input, select")]
      .filter((e) => !e.getAttribute("aria-label") && !e.textContent.trim())
      .map((e) => e.outerHTML),
  );
  assert.deepEqual(unnamed, [], "every control has a name");
  await end();
}

// A phone: nothing sticks out, one finger turns, two pinch.
{
  const phone = { viewport: { width: 375, height: 667 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2, colorScheme: "dark" };
  const { page, end } = await open("#t=0.5", phone);
  await look(page, "phone");
  const outside = await page.evaluate(() =>
    [...document.querySelectorAll("#bar button, #bar input, #bar select, #about")]
      .map((e) => [e.id, e.getBoundingClientRect()])
      .filter(([, r]) => r.width > 0 && (r.left < 0 || r.right > innerWidth || r.bottom > innerHeight || r.top < 0))
      .map(([id]) => id),
  );
  assert.deepEqual(outside, []);
  const touch = await page.context().newCDPSession(page);
  const send = (type, ...points) =>
    touch.send("Input.dispatchTouchEvent", { type, touchPoints: points.map(([x, y], id) => ({ x, y, id })) });
  const before = (await state(page)).camera;
  await send("touchStart", [180, 300]);
  await send("touchMove", [230, 300]);
  await send("touchEnd");
  await settled(page);
  const turned = (await state(page)).camera;
  assert.ok(turned.azimuth < before.azimuth - 5, "one finger turns");
  await send("touchStart", [150, 300], [220, 300]);
  await send("touchMove", [110, 300], [260, 300]);
  await send("touchEnd");
  await settled(page);
  const pinched = (await state(page)).camera;
  assert.ok(pinched.radius < 0.7 * turned.radius && Math.abs(pinched.azimuth - turned.azimuth) < 1e-6, "two fingers zoom");
  await end();
}

// Inside another page, sealed off as a stranger's.
{
  const page = await browser.newPage({ viewport: { width: 640, height: 420 } });
  const wrong = [];
  page.on("console", (message) => message.type() === "error" && wrong.push(message.text()));
  page.on("pageerror", (error) => wrong.push(String(error)));
  await page.setContent('<iframe sandbox="allow-scripts" width="600" height="380"></iframe>');
  await page.locator("iframe").evaluate((frame, html) => (frame.srcdoc = html), readFileSync(path, "utf8"));
  const inner = await (await page.locator("iframe").elementHandle()).contentFrame();
  await inner.waitForFunction(() => window.gs4d);
  await inner.evaluate(async () => {
    await gs4d.ready;
    gs4d.pause();
    gs4d.setCamera({ azimuth: 30 });
    await gs4d.settled();
  });
  await look(page, "iframe");
  await page.close();
  assert.deepEqual(wrong, []);
}

// Without WebGL2 it says so.
{
  const page = await browser.newPage();
  await page.addInitScript(() => (HTMLCanvasElement.prototype.getContext = () => null));
  await page.goto(address);
  await page.locator("#message", { hasText: "WebGL2" }).waitFor();
  await page.close();
}

// Cut short, it says so.
{
  const whole = readFileSync(path, "utf8");
  const broken = join(out, "broken.html");
  writeFileSync(broken, whole.replace(/(application\/octet-stream"[^>]*>.{3000})[^<]*/, "$1"));
  const page = await browser.newPage();
  await page.goto(pathToFileURL(broken).href);
  await page.locator("#message", { hasText: "damaged" }).waitFor();
  await page.close();
}

await browser.close();
console.log(`the page passes; pictures in ${out}`);
