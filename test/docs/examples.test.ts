import { copyFileSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import t from 'tap'
import { parse, parseAllDocuments, stringify } from 'yaml'
import { formatError, loadConfig } from '../../src/config/load/load.js'
import { createAuthority } from '../support/credentials/authority.js'
import { type Block, type Page, readPages } from '../support/pages.js'

/** Completes each example of a configuration to a whole one, and reads it as the gateway reads its file. */

const CONFIG =
  'extensions listen admin store tiers default_tier tier_sources consumers trusted_proxies services routes server'.split(
    ' ',
  )
const MORE = 'telemetry log explain edge metering instance group'.split(' ')
const UPSTREAM = 'http://127.0.0.1:9001'

type Mapping = Record<string, unknown>

/** Returns the configurations that a block shows a part of; undefined if it shows something else. */
function configsIn({ text }: Block): Mapping[] | undefined {
  const documents = parseAllDocuments(text)
  if (documents.some(({ errors }) => errors.length > 0)) return undefined
  const values = documents.map((one) => one.toJS() as unknown)
  const configs = values.map((value) => {
    if (Array.isArray(value))
      return value.every((one) => 'path' in one) ? { routes: value as unknown[] } : undefined
    if (typeof value !== 'object' || value === null) return undefined
    const keys = Object.keys(value)
    if (keys.every((key) => CONFIG.includes(key) || MORE.includes(key))) return value as Mapping
    if (keys.join() === 'limits') return { services: { api: value } }
    return keys.join() === 'free' ? { services: { api: { limits: value } } } : undefined
  })
  return configs.every((config) => config !== undefined) ? configs : undefined
}

/** Completes a part with what it leaves to the rest of its file. */
function complete(config: Mapping): Mapping {
  const services: Record<string, Mapping> = {}
  const add = (name: unknown) => {
    if (typeof name === 'string') services[name] ??= {}
  }
  for (const [name, service] of Object.entries((config.services ?? {}) as Mapping))
    services[name] = service as Mapping
  const routes = (config.routes as Mapping[] | undefined) ?? []
  for (const { service, mirror, split } of routes) {
    add(service)
    if (mirror !== undefined) add((mirror as Mapping).service)
    for (const part of (split as Mapping[] | undefined) ?? []) add(part.service)
  }
  if (Object.keys(services).length === 0) add('api')
  const tiers = new Set<string>((config.tiers as string[] | undefined) ?? [])
  if (config.tiers === undefined)
    for (const { limits, priority } of Object.values(services))
      for (const tier of [...Object.keys(limits ?? {}), ...Object.keys(priority ?? {})]) tiers.add(tier)
  return {
    ...config,
    tiers: tiers.size === 0 ? ['free', 'pro', 'enterprise'] : [...tiers],
    services: Object.fromEntries(
      Object.entries(services).map(([name, service]) => [name, { upstreams: [UPSTREAM], ...service }]),
    ),
    routes:
      routes.length > 0
        ? routes
        : Object.keys(services).map((name) => ({ path: `/${name}/*`, service: name })),
  }
}

/** Returns the environment variables that an example uses. */
function environmentFor(text: string): NodeJS.ProcessEnv {
  const names = [...text.matchAll(/\$\{([A-Z_]+)\}/g)].map(([, name]) => name!)
  return Object.fromEntries(names.map((name) => [name, 'a-value-that-is-long-enough-for-a-token']))
}

const authority = createAuthority(t)
const pair = authority.issue('docs')
const folder = t.testdir()
/** Replaces the certificates and keys that an example names by files of this test. */
function withFiles(text: string): string {
  const lists = text.replace(/\/etc\/tidegate\/[\w-]+\.txt\b/g, resolve('test/fixtures/addresses.txt'))
  return lists.replace(/[\w./-]+\.(?:pem|crt|key)\b/g, (file) => {
    const copy = join(folder, basename(file))
    copyFileSync(/key/.test(file) ? pair.key : pair.cert, copy)
    return copy
  })
}

const blocks = readPages().flatMap((page: Page) =>
  page.blocks.filter(({ language }) => language === 'yaml').map((block) => ({ page, block })),
)

t.test('every configuration example in README and docs is valid', async (t) => {
  let checked = 0
  for (const { page, block } of blocks) {
    const env = environmentFor(block.text)
    for (const config of configsIn(block) ?? []) {
      checked++
      const file = `${page.path}:${block.line}`
      const result = loadConfig(withFiles(stringify(complete(config))), { file, env })
      t.same(result.ok ? [] : result.errors.map(formatError), [], `${file}\n${block.text}`)
    }
  }
  t.ok(checked >= 25, `${checked} examples`)
})

t.test('every other YAML block parses, unless it is marked as bad', async (t) => {
  for (const { page, block } of blocks) {
    if (configsIn(block) !== undefined || block.mark === 'bad') continue
    t.doesNotThrow(() => parse(block.text), `${page.path}:${block.line}`)
  }
})
