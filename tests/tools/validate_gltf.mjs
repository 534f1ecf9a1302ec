// Checks GLB files with the Khronos glTF validator: node validate_gltf.mjs FILE...
//
// Prints one line per file and a total; exits with 1 if there is any error or warning. The npm package
// gltf-validator is looked for beside this script, above it, and in NODE_PATH.
import fs from "node:fs";
import { createRequire } from "node:module";

const validator = createRequire(import.meta.url)("gltf-validator");
const levels = ["errors", "warnings", "infos", "hints"];
const total = { errors: 0, warnings: 0, infos: 0, hints: 0 };
const files = process.argv.slice(2);

for (const file of files) {
  const { issues } = await validator.validateBytes(new Uint8Array(fs.readFileSync(file)), { uri: file });
  const counts = [issues.numErrors, issues.numWarnings, issues.numInfos, issues.numHints];
  levels.forEach((level, i) => (total[level] += counts[i]));
  console.log(`${file}: ${levels.map((level, i) => `${counts[i]} ${level}`).join(", ")}`);
  for (const { code, message, pointer } of issues.messages) console.log(`  ${code} ${pointer}: ${message}`);
}
const sum = levels.map((level) => `${total[level]} ${level}`).join(", ");
console.log(`${files.length} files, glTF validator ${validator.version()}: ${sum}`);
process.exitCode = total.errors + total.warnings > 0 ? 1 : 0;
