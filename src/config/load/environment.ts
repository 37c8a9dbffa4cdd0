import { isOwn, marked } from '../values/template.js'

export interface Substitution {
  readonly text: string
  /** What came from the environment, by name: not to be shown. */
  readonly used: ReadonlyMap<string, string>
  readonly problems: readonly { readonly offset: number; readonly wrong: string; readonly fix: string }[]
}

const REFERENCE = /\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})?/g

/**
 * Puts the environment into one scalar: `${NAME}`, `${NAME:-default}` when NAME is unset or empty, and `$${` for a
 * plain `${`. What is put in is text: it is not looked at again, and it never becomes structure.
 *
 * @param template whether names in lower case are the gateway's own, and left for `readTemplate`
 */
export function substitute(text: string, env: NodeJS.ProcessEnv, template = false): Substitution {
  if (!text.includes('${')) return { text, used: new Map(), problems: [] }
  const problems: { offset: number; wrong: string; fix: string }[] = []
  const used = new Map<string, string>()
  const result = text.replace(
    REFERENCE,
    (match, name: string | undefined, fallback: string | undefined, offset: number) => {
      if (match.startsWith('$$')) return match.slice(1)
      if (name === undefined) {
        problems.push({
          offset,
          wrong: 'holds a "${" that is not a reference to the environment',
          fix: `write \${NAME} or \${NAME:-default}, or $\${ for a plain \${`,
        })
        return ''
      }
      if (template && isOwn(name)) {
        if (fallback === undefined) return marked(name)
        problems.push({
          offset,
          wrong: `gives \${${name}} a default, which only names of the environment have`,
          fix: `write \${${name}}, or a name of the environment with a capital letter`,
        })
        return ''
      }
      // The environment of Node is an object like others, with names of its own that nobody has set.
      const value = Object.hasOwn(env, name) ? env[name] : undefined
      if (fallback !== undefined && (value === undefined || value === '')) return fallback
      if (value !== undefined) used.set(name, value)
      else {
        problems.push({
          offset,
          wrong: `the environment has no ${name}`,
          fix: `set it, or give a default: \${${name}:-default}`,
        })
      }
      return value ?? ''
    },
  )
  return { text: result, used, problems }
}

/** Shorter values keep nobody out, and taking them out of a message would make it unreadable. */
const SHORTEST_SECRET = 4

/** Takes what came from the environment out of a message, and puts its name there. */
export function redact(message: string, used: ReadonlyMap<string, string>): string {
  let result = message
  for (const [name, value] of used) {
    if (value.length < SHORTEST_SECRET) continue
    const wanted = value.toLowerCase()
    for (let at = result.toLowerCase().indexOf(wanted); at >= 0; ) {
      const label = `\${${name}}`
      result = result.slice(0, at) + label + result.slice(at + value.length)
      at = result.toLowerCase().indexOf(wanted, at + label.length)
    }
  }
  return result
}
