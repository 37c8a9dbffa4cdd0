import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Ajv } from 'ajv'
import t from 'tap'
import { parse } from 'yaml'
import { jsonSchema } from '../../src/config/schema/json-schema.js'
import { formsOf, type SchemaNode } from '../../src/config/schema/node.js'
import { ConfigSchema } from '../../src/config/schema/schema.js'

const root = fileURLToPath(new URL('../../', import.meta.url))
const { referencePage } = await import(`${root}scripts/reference-page.mjs`)
const readRoot = (name: string) => readFileSync(`${root}${name}`, 'utf8')

t.test('config/schema.json and docs/config.md are up to date with the schema', async (t) => {
  const remedy = 'run: npm run build && node scripts/generate-schema.mjs'
  t.equal(readRoot('config/schema.json'), `${JSON.stringify(jsonSchema(), null, 2)}\n`, remedy)
  t.equal(readRoot('docs/config.md'), referencePage(), remedy)
})

/** Returns every part of the schema, with its path. */
function* partsOf(part: SchemaNode, path = ''): Generator<[string, SchemaNode]> {
  yield [path, part]
  for (const form of formsOf(part)) {
    if (form !== part) yield* partsOf(form, `${path}|`)
  }
  if (part.items !== undefined) yield* partsOf(part.items, `${path}[]`)
  for (const [key, child] of Object.entries({ ...part.properties, ...part.patternProperties })) {
    yield* partsOf(child, `${path}.${key}`)
  }
}

t.test('every key has a description, and every mapping refuses unknown keys', async (t) => {
  const parts = [...partsOf(ConfigSchema as unknown as SchemaNode)]
  t.ok(parts.length > 80)
  for (const [path, part] of parts) {
    t.match(part.description, /^\S.*[^.]$/s, `${path} is described`)
    if (part.type === 'object' && part.raw !== true) t.match(part, { additionalProperties: false }, path)
  }
})

t.test('the JSON Schema refuses every structural error that the reader refuses', async (t) => {
  // Strict, except for the unions of types of sizes and durations.
  const validate = new Ajv({ allErrors: true, allowUnionTypes: true, strictTypes: false }).compile(
    jsonSchema(),
  )
  const valid = (text: string) => validate(parse(text))
  t.ok(valid(readRoot('config/tidegate.yaml')), JSON.stringify(validate.errors))
  const full = readFileSync(`${root}test/fixtures/config-full.yaml`, 'utf8')
  t.ok(valid(full), JSON.stringify(validate.errors))

  // Names that must exist, sums and YAML itself take more than a schema.
  const structural = [
    ...[
      'misspelt-key',
      'unknown-key',
      'proto-service',
      'malformed-duration',
      'malformed-limit',
      'malformed-size',
    ],
    ...['wrong-types', 'numbers-for-names', 'bad-names', 'missing-keys', 'no-routes', 'limit-list-empty'],
    ...[
      'limits-too-many',
      'bad-consumers',
      'bad-tokens',
      'bad-api-keys',
      'bad-listen',
      'bad-telemetry',
      'bad-algorithms',
      'bad-costs',
    ],
  ]
  const fixtures = new Set(readdirSync(`${root}test/fixtures/config`))
  for (const name of structural) {
    t.ok(fixtures.has(`${name}.yaml`), name)
    t.notOk(valid(readRoot(`test/fixtures/config/${name}.yaml`)), `${name} is marked in an editor`)
  }
})
