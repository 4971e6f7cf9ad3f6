// What viewers show: node pictures.mjs FOLDER VIEWER FILE OUT.png [SECONDS], with FILE in FOLDER and VIEWER one of viewers/*.html.
// Chromium is looked for at $CHROMIUM or /usr/bin/chromium.
import { createReadStream, existsSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { dirname, extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const here = dirname(fileURLToPath(import.meta.url));
const [folder, viewer, name, out, seconds = "0"] = process.argv.slice(2);
const types = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".json": "application/json", ".wasm": "application/wasm" };
const server = createServer((request, response) => {
  const path = normalize(decodeURIComponent(new URL(request.url, "http://x").pathname));
  const file = path.startsWith("/files/") ? join(folder, path.slice(7)) : join(here, path);
  if (!existsSync(file) || !statSync(file).isFile()) return response.writeHead(404).end();
  response.writeHead(200, { "content-type": types[extname(file)] ?? "application/octet-stream" });
  createReadStream(file).pipe(response);
}).listen(0, "127.0.0.1");

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"],
});
let failed = false;
try {
  const page = await browser.newPage({ viewport: { width: 256, height: 256 } });
  page.on("pageerror", (error) => { failed = true; console.error(`page error: ${error.message}`); });
  page.on("console", (message) => { if (message.type() === "error" && !message.location().url.endsWith("favicon.ico")) { failed = true; console.error(`console: ${message.text()}`); } });
  const query = new URLSearchParams({ file: `/files/${encodeURIComponent(name)}`, seconds });
  await page.goto(`http://127.0.0.1:${server.address().port}/viewers/${viewer}.html?${query}`);
  await page.waitForFunction(() => globalThis.shown === true, undefined, { timeout: 180000 });
  await page.screenshot({ path: out });
} finally {
  await browser.close();
  server.close();
}
process.exit(failed ? 1 : 0);
