import type { Fail } from './parse-url.js'

/** Variables that a header's value may contain. */
const VARIABLES = ['consumer', 'tier', 'request_id', 'route', 'service', 'client_ip'] as const
export type Variable = (typeof VARIABLES)[number]

/** Header value: text and variable names in turn, beginning and ending with text. */
export interface Template {
  readonly pieces: readonly string[]
}

/**
 * Marks the gateway's own names, which have no capital letter. A variable of the environment that happens to be called
 * `consumer` can so never replace the real consumer. `substitute` puts the names between these marks, and no value from
 * the environment can contain one.
 */
const MARK = '\0'

export function marked(name: string): string {
  return MARK + name + MARK
}

export function isOwn(name: string): boolean {
  return !/[A-Z]/.test(name)
}

/**
 * Reads a template.
 *
 * @param text with the environment substituted, and the gateway's own names marked
 */
export function readTemplate(text: string, fail: Fail): Template | undefined {
  const pieces = text.split(MARK)
  const unknown = pieces.find((piece, i) => i % 2 === 1 && !(VARIABLES as readonly string[]).includes(piece))
  if (unknown !== undefined) {
    const known = VARIABLES.map((name) => `\${${name}}`).join(', ')
    return fail(
      `names \${${unknown}}, which the gateway does not know`,
      `write ${known}, or an environment variable with a capital letter`,
    )
  }
  if (text === '') return fail('is empty', 'give a value, or name the header under remove')
  if (text.length > 4096) return fail('is longer than 4096 characters', 'write a shorter value')
  if (pieces.some((piece, i) => i % 2 === 0 && /[^\t\x20-\x7e]/.test(piece)) || text.trim() !== text) {
    return fail(
      'cannot be the value of a header',
      'use printable ASCII on one line, with no space at the ends',
    )
  }
  return { pieces }
}

/** Formats the template as in the file. */
export function showTemplate({ pieces }: Template): string {
  return JSON.stringify(pieces.map((piece, i) => (i % 2 === 1 ? `\${${piece}}` : piece)).join(''))
}
