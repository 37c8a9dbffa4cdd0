/**
 * Writes config/schema.json and docs/config.md from the schema of the configuration, as it was built into dist/.
 * With --check it writes nothing and exits with 1 when either is not what the schema says.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { jsonSchema } from '../dist/config/json-schema.js'
import { referencePage } from '../dist/config/reference.js'

const made = {
  'config/schema.json': `${JSON.stringify(jsonSchema(), null, 2)}\n`,
  'docs/config.md': referencePage(),
}
let drifted = false
for (const [name, text] of Object.entries(made)) {
  const file = new URL(`../${name}`, import.meta.url)
  if (!process.argv.includes('--check')) writeFileSync(file, text)
  else if (text !== readOrEmpty(file)) {
    drifted = true
    console.error(
      `${name} is not what src/config/schema.ts says; run: npm run build && node scripts/generate-schema.mjs`,
    )
  }
}
process.exitCode = drifted ? 1 : 0

function readOrEmpty(file) {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}
