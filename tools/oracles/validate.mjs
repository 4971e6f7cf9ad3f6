// The Khronos validator on each file: node validate.mjs a.glb b.glb; exits with 1 on an error or a warning.
// It does not know attribute names with an extension's prefix yet (KhronosGroup/glTF-Validator issue 252). So they are
// renamed to application-specific ones, of the same length, and everything else is checked as it stands.
import { readFileSync } from "node:fs";
import { validateBytes } from "gltf-validator";

let bad = 0;
for (const path of process.argv.slice(2)) {
  const file = readFileSync(path);
  const length = file.readUInt32LE(12);
  const text = file.toString("utf8", 20, 20 + length);
  file.write(text.replaceAll('"KHR_gaussian_splatting:', '"_HR_GAUSSIAN_SPLATTING_'), 20, "utf8");
  const { issues, info } = await validateBytes(new Uint8Array(file), { uri: path });
  const messages = issues.messages.filter((m) => m.code !== "UNSUPPORTED_EXTENSION");
  for (const m of messages) console.log(`${m.code} ${m.pointer ?? m.offset}: ${m.message}`);
  console.log(`${path}: ${issues.numErrors} errors, ${issues.numWarnings} warnings, ${info.totalVertexCount} vertices`);
  bad += issues.numErrors + issues.numWarnings;
}
process.exit(bad ? 1 : 0);
