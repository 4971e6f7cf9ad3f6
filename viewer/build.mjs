// Bundles the page into one HTML template: no file beside it, no request, no eval. The same sources give the same bytes.
//   node build.mjs [OUT]      OUT defaults to the file that the Python package ships

import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const out = process.argv[2] ?? join(here, "../gs4d/export/page_assets/viewer.html");
const options = { bundle: true, minify: true, write: false, target: ["es2020"], charset: "utf8", legalComments: "none" };

async function bundle(file) {
  const done = await build({ ...options, entryPoints: [join(here, "src", file)], format: "iife", plugins: [inlineWorker] });
  return done.outputFiles[0].text.trim();
}

const inlineWorker = {
  name: "inline-worker",
  setup(setup) {
    setup.onResolve({ filter: /^inline-worker:/ }, ({ path }) => ({ path: path.slice(14), namespace: "inline-worker" }));
    setup.onLoad({ filter: /.*/, namespace: "inline-worker" }, async ({ path }) => ({
      contents: await bundle(path),
      loader: "text",
    }));
  },
};

const script = await bundle("main.ts");
const style = await bundle("style.css");
const hash = (text) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
const policy = [
  "default-src 'none'",
  `script-src ${hash(script)}`,
  `style-src ${hash(style)}`,
  "img-src data: blob:",
  "worker-src blob:",
  "connect-src @@CONNECT@@",
  "base-uri 'none'",
  "form-action 'none'",
].join("; ");

const parts = { POLICY: policy, STYLE: style, SCRIPT: script };
const page = readFileSync(join(here, "src/page.html"), "utf8").replace(/%%([A-Z]+)%%/g, (_, name) => parts[name]);
mkdirSync(dirname(out), { recursive: true });
writeFileSync(out, page);
console.log(`${out}: ${(page.length / 1024).toFixed(0)} KB`);
