import { isAbsolute, join } from 'node:path'
import type { Scalar } from 'yaml'
import { offsetOf, quote, type SchemaNode } from '../schema/node.js'
import { suggest } from '../values/nearest-name.js'
import { formatDuration } from '../values/quantities.js'
import { KINDS } from '../values/scalar-types.js'
import { substitute } from './environment.js'

/** Records what is wrong and what to do, at an offset of the text or at the value. */
export type FailAt = (wrong: string, fix: string, at?: number) => undefined

/** Reads the text of one value by its kind or JSON type, after substitution of the environment. */
export function readScalar(
  part: SchemaNode,
  scalar: Scalar,
  env: NodeJS.ProcessEnv,
  used: Map<string, string>,
  folder: (offset: number) => string,
  fail: FailAt,
): unknown {
  const source = typeof scalar.value === 'string' ? scalar.value : (scalar.source ?? String(scalar.value))
  const { text: written, used: here, problems } = substitute(source, env, part.kind === 'template')
  for (const { offset, wrong, fix } of problems) {
    const quoted = scalar.type === 'PLAIN' ? 0 : 1
    fail(wrong, fix, (offsetOf(scalar) ?? 0) + (scalar.type?.startsWith('BLOCK') ? 0 : offset + quoted))
  }
  if (problems.length > 0) return undefined
  for (const [name, value] of here) used.set(name, value)
  const text = isFile(part, written) ? join(folder(offsetOf(scalar) ?? 0), written) : written
  const replaced = here.size > 0
  // Values from the environment are never shown. Text from the file is, unless the key is marked as secret.
  const shown = part.secret ? 'the value' : quote(source)
  const wrong = (what: string, fix: string) =>
    fail(`${shown} ${what}`, replaced ? 'correct the environment variable, or write the value here' : fix)
  const unquoted = () =>
    wrong(`is read as a ${typeof scalar.value}`, `put it in quotes: "${part.secret ? '…' : source}"`)
  if (part.kind !== undefined) {
    const { read, types } = KINDS[part.kind]
    const value = read(text, wrong, part)
    const type = typeof scalar.value === 'number' ? 'integer' : (typeof scalar.value as 'string' | 'boolean')
    const fits = replaced || (types as readonly string[]).includes(type)
    return value === undefined || fits ? value : unquoted()
  }
  if (part.enum !== undefined) {
    return part.enum.includes(text) ? text : wrong('is not known here', suggest(text, part.enum, 'choices'))
  }
  if (part.type === 'boolean') {
    if (text === 'true' || text === 'false') return text === 'true'
    return wrong('is neither true nor false', 'write true or false')
  }
  if (part.type === 'integer' || part.type === 'number') {
    const value =
      typeof scalar.value === 'number'
        ? scalar.value
        : replaced && /^-?[0-9]+(\.[0-9]+)?$/.test(text)
          ? Number(text)
          : Number.NaN
    if (part.type === 'integer' ? Number.isSafeInteger(value) : Number.isFinite(value))
      return inBounds(part, value, wrong)
    return part.type === 'integer'
      ? wrong('is not a whole number', 'write digits alone')
      : wrong('is not a number', 'write one such as 0.5')
  }
  if (typeof scalar.value !== 'string') return unquoted()
  if (text.length < (part.minLength ?? 0)) {
    return part.minLength === 1
      ? wrong('is empty', 'give a value')
      : wrong('is too short', `give ${part.minLength} characters or more`)
  }
  if (text.length > (part.maxLength ?? Number.POSITIVE_INFINITY)) {
    return wrong('is too long', `give ${part.maxLength} characters or less`)
  }
  return text
}

/** Returns the value if it is within the bounds of its part. */
export function inBounds(part: SchemaNode, value: number, fail: FailAt): number | undefined {
  const { least = part.minimum, most = part.maximum, kind } = part
  const show = (bound: number) => (kind === 'duration' ? formatDuration(bound) : String(bound))
  if (least !== undefined && value < least)
    return fail(`is less than ${show(least)}`, `write ${show(least)} or more`)
  if (most !== undefined && value > most)
    return fail(`is more than ${show(most)}`, `write ${show(most)} or less`)
  return value
}

const FILES: ReadonlySet<string | undefined> = new Set(['pem', 'address_file', 'public_key'])

/**
 * Returns true for a relative path, which starts at the folder of the configuration file. False for a keyword such as
 * `stdout`, and for text that may stand in the file itself in place of a path.
 */
function isFile({ kind, file }: SchemaNode, text: string): boolean {
  if (text === '' || isAbsolute(text) || text.includes('-----BEGIN ')) return false
  return file === undefined ? FILES.has(kind) : !file.includes(text)
}
