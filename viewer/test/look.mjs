import { chromium } from "playwright-core";
const [page_path, out] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox","--disable-quic","--no-first-run","--disable-background-networking","--disable-component-update","--disable-sync"] });
for (const [name, w, h, dark] of [["desktop",1280,800,false],["phone",390,844,true]]) {
  const context = await browser.newContext({ viewport: {width:w,height:h}, colorScheme: dark?"dark":"light" });
  const page = await context.newPage();
  page.on("console", m => console.log("console", m.type(), m.text()));
  page.on("pageerror", e => console.log("pageerror", e));
  page.on("request", r => console.log("request", r.url().slice(0,100)));
  await page.goto("file://"+page_path+"#t=0.5&az=20&el=15");
  await page.waitForFunction(() => window.gs4d);
  console.log(await page.evaluate(async () => { const a=performance.now(); await gs4d.ready; const b=performance.now(); await gs4d.settled(); return [gs4d.count, b-a, performance.now()-b, JSON.stringify(gs4d.getCamera())]; }));
  await page.screenshot({ path: `${out}/${name}.png` });
}
await browser.close();
