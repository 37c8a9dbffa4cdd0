/**
 * Writes the generated files: config/schema.json and docs/config.md from the configuration schema in dist/, docs/licences.md and
 * sbom.cdx.json from package-lock.json. With --check it writes nothing, and exits with 1 if one of them is out of date.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { jsonSchema } from '../dist/config/schema/json-schema.js'
import { bill, licencePage } from './dependencies.mjs'
import { referencePage } from './reference-page.mjs'

const manifest = JSON.parse(readOrEmpty(fileOf('package.json')))
const lock = JSON.parse(readOrEmpty(fileOf('package-lock.json')))
const made = {
  'config/schema.json': [
    () => `${JSON.stringify(jsonSchema(), null, 2)}\n`,
    'src/config/schema/schema.ts says',
  ],
  'docs/config.md': [referencePage, 'src/config/schema/schema.ts says'],
  'docs/licences.md': [() => licencePage(lock), 'package-lock.json says'],
  'sbom.cdx.json': [() => `${JSON.stringify(bill(manifest, lock), null, 1)}\n`, 'package-lock.json says'],
}
let drifted = false
for (const [name, [make, source]] of Object.entries(made)) {
  const file = fileOf(name)
  const text = make()
  if (!process.argv.includes('--check')) writeFileSync(file, text)
  else if (text !== readOrEmpty(file)) {
    drifted = true
    console.error(`${name} is not what ${source}; run: npm run schema`)
  }
}
process.exitCode = drifted ? 1 : 0

function fileOf(name) {
  return new URL(`../${name}`, import.meta.url)
}

function readOrEmpty(file) {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}
