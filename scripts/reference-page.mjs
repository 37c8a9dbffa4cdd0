import { formsOf, inFile, isMapping } from '../dist/config/schema/node.js'
import { ConfigSchema } from '../dist/config/schema/schema.js'
import { KINDS } from '../dist/config/values/scalar-types.js'

/** Returns the reference page of the configuration file, `docs/config.md`, made from the schema. */
export function referencePage() {
  const sections = []
  section(ConfigSchema, '', false, sections)
  return `${INTRODUCTION}\n${sections.join('\n')}`
}

/** Writes a table for a mapping, then those of the mappings in it. */
function section(part, path, restart, sections) {
  const children = childrenOf(part, path)
  if (children.length > 0) {
    const rows = children.map(([key, child]) => row(part, key, child, part.restart ?? restart))
    const heading = path === '' ? '## The top of the file' : `## \`${path}\``
    const table = ['| key | value | default | meaning |', '| --- | --- | --- | --- |', ...rows].join('\n')
    sections.push(`${heading}\n\n${part.description}.\n\n${table}\n`)
  }
  for (const [key, child] of children) {
    const inside = path === '' ? key : `${path}.${key}`
    for (const [form, suffix] of mappingsIn(child)) {
      section(form, inside + suffix, child.restart ?? part.restart ?? restart, sections)
    }
  }
}

function childrenOf(part, path) {
  const values = Object.values(part.patternProperties ?? {})[0]
  if (values === undefined) return Object.entries(part.properties ?? {})
  return [[path.endsWith('limits') ? '<tier>' : '<name>', values]]
}

/** Returns the mappings that a value may be or contain, with the suffix of the key that leads there. */
function mappingsIn(part) {
  const forms = formsOf(part)
  const mappings = forms.filter(isMapping)
  const found = mappings.length === 0 ? [] : [[joined(mappings, part), '']]
  for (const { items } of forms) {
    if (items === undefined || part.wrap) continue
    for (const [inner, suffix] of mappingsIn(items)) found.push([inner, `[]${suffix}`])
  }
  return found
}

/** Merges several mappings, for a table of all keys that are allowed. */
function joined(mappings, part) {
  if (mappings.length === 1) return mappings[0]
  const properties = Object.assign({}, ...mappings.map((mapping) => mapping.properties))
  const required = mappings[0].required.filter((key) =>
    mappings.every((other) => other.required.includes(key)),
  )
  return { properties, required, description: part.description }
}

function row(parent, key, part, restart) {
  const required = parent.required?.includes(key) === true
  const fallback =
    part.default === undefined
      ? required
        ? '**required**'
        : ''
      : isEmptyMapping(part.default)
        ? ''
        : code(part.default)
  const example = part.examples === undefined ? '' : ` Such as ${part.examples.map(code).join(', ')}.`
  const later = (part.restart ?? restart) ? ' *Next start.*' : ''
  const meaning = `${part.description}.${example}${later}`
  return `| \`${key}\` | ${typeOf(part)} | ${fallback} | ${meaning.replaceAll('|', '\\|')} |`
}

function typeOf(part) {
  const names = formsOf(part).map((form) => {
    if (form.const !== undefined) return `\`${form.const}\``
    if (form.kind !== undefined) return KINDS[form.kind].label
    if (form.enum !== undefined) return form.enum.map((value) => `\`${value}\``).join(', ')
    if (form.items !== undefined) return `list of ${typeOf(form.items)}`
    if (isMapping(form)) return 'mapping'
    if (form.type === 'integer') return `${form.minimum} to ${form.maximum}`
    return form.type === 'boolean' ? 'true or false' : 'text'
  })
  return [...new Set(names)].join(' or ')
}

function isEmptyMapping(value) {
  return typeof value === 'object' && !Array.isArray(value) && Object.keys(value ?? {}).length === 0
}

function code(value) {
  return `\`${inFile(value)}\``
}

const INTRODUCTION = `<!-- Made from src/config/schema/schema.ts by \`node scripts/generate-schema.mjs\`; do not edit. -->

# The configuration file

One YAML file configures Tidegate. \`config/tidegate.yaml\` is an example with comments. The smallest file is

\`\`\`yaml
tiers: [free]
services:
  payments: { upstreams: [http://127.0.0.1:9001], limits: { free: 10/min } }
routes:
  - { path: /payments/*, service: payments }
\`\`\`

\`tidegate check --config FILE\` reports everything that is wrong with a file at once, each error as
\`file:line:column: what is wrong; what to do\`. An editor with a YAML language server completes and explains keys: run
\`tidegate schema > schema.json\`, and begin the file with

\`\`\`yaml
# yaml-language-server: $schema=./schema.json
\`\`\`

## How values are written

- **Durations**: a whole number and a unit, \`100ms\`, \`5s\`, \`1m\`, \`2h\`, \`1d\`.
- **Sizes**: bytes, \`512\`, or with a unit, \`16KiB\`, \`10MiB\`, \`1GiB\`.
- **Limits**: \`N/s\`, \`N/min\`, \`N/h\`, \`N/day\`, any other window as in \`100/30s\`, or in full:
  \`{ amount: 100, window: 30s, name: burst }\`. A list of limits must hold as a whole: a request takes from all or from none.
  Write \`unlimited\` where you want no limit, so that no tier is without one by accident. [limits.md](limits.md) compares the algorithms.
- **The environment**: \`\${NAME}\` or \`\${NAME:-default}\` in any value, \`$\${\` for a plain \`\${\`. The inserted value is text and never
  becomes structure. In header values of a route, a name in lower case is one of the gateway's own ([shaping.md](shaping.md)). Inside
  \`{ }\` and \`[ ]\`, YAML needs quotes around it: \`{ key: "\${ACME_KEY}", consumer: acme }\`.
- **Files**: a relative path starts at the folder of the configuration file, wherever you start the gateway. In
  \`/etc/tidegate/tidegate.yaml\`, \`tls/api.pem\` is \`/etc/tidegate/tls/api.pem\`. The same holds for \`log.access\`.
- YAML 1.2: \`off\` and \`no\` are text. Aliases work; merge keys (\`<<\`) and tags do not. The file may have 1 MiB.

## Which route a request takes

A request takes the most specific route, whatever the order in the file:

1. **Host**: the exact name, then \`*.example.com\` (all names below, however deep; the longest wins), then routes without a host.
2. **Path**, segment by segment from the left: a literal, then \`:name\`, then \`*\`. \`/payments/*\` also matches \`/payments\`. A
   trailing slash makes no difference; case does.
3. **Method**: a route that names the method, then one that names none. GET includes HEAD unless a route names HEAD. CONNECT and
   TRACE are never routed.

If one step finds nothing, the next best match of the step before is tried. So a route for \`POST /payments/refunds\` leaves
\`GET /payments/refunds\` to \`/payments/*\`. If a path has routes, but none for the method, the answer is 405 with the methods that
it has.

## Several files

\`include\` lets each team keep a file of its own:

\`\`\`yaml
include: [teams/*.yaml]
\`\`\`

- Such a file holds \`services\`, \`routes\`, \`tier_sources\` and \`extensions\`, and nothing else. They count as if they stood in the
  main file, behind its own. Everything that concerns all teams stays in the main file.
- A \`*\` stands for any characters of the file name, but for no hidden file. The files count in the order of the list, and of
  their names. A file that two paths name counts once. So \`*.yaml\` may name the main file, too.
- A relative path in an included file starts at the folder of that file. An anchor holds within its file. An included file includes
  no others.
- An error has the name, line and column of its file. A service or route that two files have is an error that names both places.
- All files together may have 1 MiB and 100,000 values.
- The gateway watches them like the main file, new and removed ones too. A path that matches no file is an error: a folder that is
  not mounted takes no route away.

## Changing it while it runs

The gateway watches the file. It notices a write in place, a replacement by \`mv\` or an editor, and a new Kubernetes ConfigMap
(unless it is mounted by \`subPath\`: those never change). SIGHUP and \`POST /config/reload\` reload it, too. The gateway reads and
checks the file, then swaps it in as a whole. An invalid file changes nothing, and \`GET /config\` says why. No request in progress
is dropped and no count is lost: a raised limit counts what was used already. Keys marked *Next start* keep their old value until
the next start, and the reload says so.
`
