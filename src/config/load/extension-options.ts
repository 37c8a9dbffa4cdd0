import { resolve } from 'node:path'
import type { Extension } from '../../extension/define.js'
import { forgetModules, type LoadedModule, loadedModules, loadModule } from '../../extension/modules.js'
import type { SchemaNode } from '../schema/node.js'
import { deepFreeze } from '../snapshot/freeze.js'
import { suggest } from '../values/nearest-name.js'
import { KINDS } from '../values/scalar-types.js'
import { defaultOf, readValue } from './read.js'

/** Facts about modules of extensions, by absolute path: plain data for the reader of the configuration. */
export type ModuleFacts = ReadonlyMap<string, ModuleFact>
type ModuleFact = { readonly options: SchemaNode } | { readonly problem: string }

const schemas = new WeakMap<LoadedModule, SchemaNode>()

/** Returns the facts about all modules that this process has loaded. */
export function knownModules(): Map<string, ModuleFact> {
  const facts = new Map<string, ModuleFact>()
  for (const [file, module] of loadedModules) {
    const options = schemas.get(module)
    if (options !== undefined) facts.set(file, { options })
  }
  return facts
}

/** Returns the schema of a module's options. If the module is not loaded, every option is secret. */
export function optionsOf(file: string): SchemaNode {
  const module = loadedModules.get(resolve(file))
  return (module && schemas.get(module)) ?? { secret: true }
}

/** Loads a module and returns the facts about it. One with a problem is loaded again the next time. */
export async function learnModule(file: string): Promise<ModuleFact> {
  try {
    const module = await loadModule(file)
    const options = schemaOf(module.extension)
    schemas.set(module, options)
    return { options }
  } catch (error) {
    forgetModules([file])
    return { problem: (error as Error).message }
  }
}

function schemaOf({ options = { type: 'object', properties: {} } }: Extension<unknown>): SchemaNode {
  return optionsNode(options, 'options')
}

/**
 * Reads options that are in no file, with the reader of the configuration.
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

/** Words of JSON Schema that go with every type. */
const NOTES = ['type', 'description', 'title', 'examples', 'default', 'secret']
/** Further words by type. */
const WORDS: Readonly<Record<string, readonly string[]>> = {
  string: ['format', 'enum', 'minLength', 'maxLength'],
  integer: ['minimum', 'maximum'],
  number: ['minimum', 'maximum'],
  boolean: [],
  array: ['items', 'minItems', 'maxItems'],
  object: ['properties', 'required', 'additionalProperties'],
}
const FORMATS = ['duration', 'size', 'url'] as const

/**
 * Converts a JSON Schema of a module into a schema of our reader.
 *
 * @throws Error that names a word which the reader does not know
 */
function optionsNode(schema: unknown, path: string): SchemaNode {
  const given = (typeof schema === 'object' && schema !== null ? schema : {}) as Record<string, unknown>
  const fail = (wrong: string): never => {
    throw new Error(`${path}: ${wrong}; correct the module`)
  }
  const expect = (what: string, word: unknown, known: readonly string[]) => {
    if (!known.includes(word as string))
      fail(`the ${what} "${word}" is not supported; ${suggest(String(word), known, `known ${what}s`)}`)
  }
  expect('type', given.type, Object.keys(WORDS))
  for (const word of Object.keys(given)) expect('word', word, [...NOTES, ...WORDS[given.type as string]!])
  const { format, properties, additionalProperties: values, items, title: _, ...rest } = given
  const node: Record<string, unknown> = { description: given.description ?? path, ...rest }
  if (format !== undefined) {
    expect('format', format, FORMATS)
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
