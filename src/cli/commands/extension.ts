import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { NAME_PATTERN } from '../../config/values/scalar-types.js'
import { stripsTypes } from '../../extension/modules.js'
import { JSON_OPTION, Refused, WrongUse } from '../command.js'
import { defineCommand } from '../define-command.js'

export const command = defineCommand({
  name: 'extension',
  usage: ['new NAME [--dir DIR] [--js]'],
  about: `Writes a starting point for an extension, NAME.ts, and a test beside it. With --js, and on Node.js before 22.18, which cannot
load TypeScript, it is NAME.mjs. The test needs Tidegate in the project: npm install --save-dev tidegate`,
  options: {
    dir: { value: 'DIR', help: 'the folder to write to; by default extensions' },
    js: { help: 'write JavaScript' },
    json: JSON_OPTION,
  },
  positionals: ['ACTION', 'NAME'],
  async run({ dir = 'extensions', js }, [action, name = ''], { cwd }) {
    if (action !== 'new') throw new WrongUse(`there is no "${action}"; write tidegate extension new NAME`)
    if (!new RegExp(NAME_PATTERN).test(name))
      throw new WrongUse(`"${name}" is not a name; use a-z, 0-9, "_" and "-", 63 characters at most`)
    const end = js || !stripsTypes() ? 'mjs' : 'ts'
    const files = { [`${name}.${end}`]: moduleText(name), [`${name}.test.${end}`]: testText(name, end) }
    for (const file of Object.keys(files)) {
      if (existsSync(resolve(cwd, dir, file)))
        throw new Refused(`${join(dir, file)} exists already; choose another name, or remove it`)
    }
    mkdirSync(resolve(cwd, dir), { recursive: true })
    for (const [file, text] of Object.entries(files)) writeFileSync(resolve(cwd, dir, file), text)
    const written = Object.keys(files).map((file) => join(dir, file))
    return {
      data: { files: written },
      text: () => `wrote ${written.join(' and ')}

Test it:   node --test ${written[1]}
Use it:    extensions:
             - { name: ${name}, module: ./${written[0]}, options: { header: x-partner } }
           routes:
             - { path: /orders/*, service: orders, use: [${name}] }`,
    }
  },
})

const moduleText = (name: string) => `import { defineExtension, respond } from 'tidegate/extension'

/** ${name}: denies requests without a header. */
export default defineExtension({
  // JSON Schema of the options. The gateway checks them, fills in defaults, and hides those with secret: true.
  options: {
    type: 'object',
    properties: { header: { type: 'string', minLength: 1, description: 'Header that a request needs' } },
    required: ['header'],
  },
  // Runs once at the start, and again when the options change.
  create({ options, log }) {
    log.info('ready', { header: options.header })
    return {
      // The consumer and its tier are known, quota is not yet taken. A reply ends the request.
      onRequest(request) {
        if (request.header(options.header) !== undefined) return undefined
        return respond(403, { detail: \`Send the header \${options.header}.\` })
      },
    }
  },
})
`

const testText = (name: string, end: string) => `import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runHook } from 'tidegate/extension/testing'
import extension from './${name}.${end}'

const options = { header: 'x-partner' }

test('a request with the header passes', async () => {
  const request = { path: '/orders', consumer: 'acme', headers: { 'X-Partner': 'acme' } }
  assert.equal(await runHook(extension, 'onRequest', request, options), undefined)
})

test('a request without it gets 403', async () => {
  const reply = await runHook(extension, 'onRequest', { path: '/orders', consumer: 'acme' }, options)
  assert.equal(reply?.status, 403)
})
`
