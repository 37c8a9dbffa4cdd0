import { resolve } from 'node:path'
import type { Extension } from '../../extension/define.js'
import type { LoadedModule } from '../../extension/modules.js'
import { loadedModules, loadModule } from '../../extension/modules.js'
import type { SchemaNode } from '../schema/node.js'
import { deepFreeze } from '../snapshot/freeze.js'
import { suggest } from '../values/nearest-name.js'
import { KINDS } from '../values/scalar-types.js'
import { defaultOf, readValue } from './read.js'

/** Facts about the modules of extensions that the reader of the configuration needs, by absolute path. Plain data. */
export type ModuleFacts = ReadonlyMap<string, ModuleFact>
type ModuleFact = { readonly options: SchemaNode } | { readonly problem: string }

const facts = new WeakMap<LoadedModule, ModuleFact>()

/** Returns the facts about all modules that this process has loaded. */
export function knownModules(): Map<string, ModuleFact> {
  return new Map(loadedModules().map((module) => [module.file, factOf(module)]))
}

/** Returns the schema of a module's options. If the module is not loaded, every option is secret. */
export function optionsOf(file: string): SchemaNode {
  const known = knownModules().get(resolve(file))
  return known !== undefined && 'options' in known ? known.options : { secret: true }
}

/** Loads a module and returns the facts about it. */
export async function learnModule(file: string): Promise<ModuleFact> {
  try {
    return factOf(await loadModule(file))
  } catch (error) {
    return { problem: (error as Error).message }
  }
}

function factOf(module: LoadedModule): ModuleFact {
  let fact = facts.get(module)
  if (fact === undefined) {
    try {
      fact = { options: schemaOf(module.extension) }
    } catch (error) {
      fact = { problem: `${(error as Error).message}; correct the module` }
    }
    facts.set(module, fact)
  }
  return fact
}

function schemaOf({ options = { type: 'object', properties: {} } }: Extension<unknown>): SchemaNode {
  return optionsNode(options, 'options')
}

/**
 * Reads options that did not come from a file, as the gateway reads those of its file.
 *
 * @throws Error with all that is wrong
 */
export function readOptions(extension: Extension<unknown>, options: object): object {
  const problems: string[] = []
  const report = (_: number, message: string) => problems.push(message)
  const read = readValue(schemaOf(extension), options, 'options', report)
  if (problems.length > 0) throw new Error(problems.join('\n'))
  return deepFreeze(read as object)
}

/** Words of JSON Schema that say nothing about the value. */
const NOTES = 'type description title examples default secret'.split(' ')
/** Further words by type. */
const WORDS: Readonly<Record<string, readonly string[]>> = {
  string: 'format enum minLength maxLength'.split(' '),
  integer: ['minimum', 'maximum'],
  number: ['minimum', 'maximum'],
  boolean: [],
  array: ['items', 'minItems', 'maxItems'],
  object: ['properties', 'required', 'additionalProperties'],
}
const FORMATS = ['duration', 'size', 'url'] as const

/**
 * Turns the JSON Schema of a module into what our reader reads by.
 *
 * @throws Error that names a word which the reader does not know
 */
function optionsNode(schema: unknown, path: string): SchemaNode {
  const given = (typeof schema === 'object' && schema !== null ? schema : {}) as Record<string, unknown>
  const fail = (wrong: string): never => {
    throw new Error(`${path}: ${wrong}`)
  }
  const words = WORDS[given.type as string]
  const choose = (text: unknown, known: readonly string[], what: string) => suggest(String(text), known, what)
  if (words === undefined)
    return fail(
      `the type "${given.type}" is not supported; ${choose(given.type, Object.keys(WORDS), 'types')}`,
    )
  const known = [...NOTES, ...words]
  for (const word of Object.keys(given)) {
    if (!known.includes(word))
      fail(`the word "${word}" is not supported here; ${choose(word, known, 'known words')}`)
  }
  const { format, properties, additionalProperties: values, items, title: _, ...rest } = given
  const node: Record<string, unknown> = { description: given.description ?? path, ...rest }
  if (format !== undefined) {
    if (!FORMATS.includes(format as never))
      fail(`the format "${format}" is not supported; ${choose(format, FORMATS, 'formats')}`)
    node.kind = format
    node.pattern = KINDS[format as (typeof FORMATS)[number]].pattern
  }
  if (items !== undefined || given.type === 'array') node.items = optionsNode(items, `${path}[]`)
  if (given.type === 'object' && typeof values === 'object') {
    const named = optionsNode(values, `${path}.<name>`)
    node.patternProperties = { '^[^\\u0000-\\u001f]{1,256}$': named }
    node.keyFix = 'a name here has 1 to 256 characters'
  } else if (given.type === 'object') {
    if (values !== undefined && values !== false) fail('additionalProperties must be false or a schema')
    node.properties = Object.fromEntries(
      Object.entries(properties ?? {}).map(([name, child]) => [name, optionsNode(child, `${path}.${name}`)]),
    )
    node.required = Array.isArray(given.required) ? given.required : []
  }
  if (given.default !== undefined) {
    try {
      defaultOf(node)
    } catch {
      fail(`the default ${JSON.stringify(given.default)} is not a value of this schema`)
    }
  }
  return node
}
