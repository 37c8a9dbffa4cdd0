import { isOwn, marked } from '../values/template.js'

export interface Substitution {
  readonly text: string
  /** Values that came from the environment, by variable name. They must not be shown. */
  readonly used: ReadonlyMap<string, string>
  readonly problems: readonly { readonly offset: number; readonly wrong: string; readonly fix: string }[]
}

const REFERENCE = /\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})?/g

/**
 * Puts environment variables into one scalar: `${NAME}`, `${NAME:-default}` if NAME is unset or empty, and `$${` for a
 * plain `${`. The inserted value is text: it is not substituted again, and never becomes structure.
 *
 * @param template true if names in lower case are the gateway's own, and left for `readTemplate`
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
          wrong: 'contains a "${" that is not a reference to the environment',
          fix: `write \${NAME} or \${NAME:-default}, or $\${ for a plain \${`,
        })
        return ''
      }
      if (template && isOwn(name)) {
        if (fallback === undefined) return marked(name)
        problems.push({
          offset,
          wrong: `gives \${${name}} a default, which only environment variables can have`,
          fix: `write \${${name}}, or an environment variable with a capital letter`,
        })
        return ''
      }
      // Node's environment is an ordinary object, which inherits names that the user has not set.
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

/**
 * Shortest value that is redacted, in characters. A shorter one protects nothing, and redacting it would make a message
 * unreadable.
 */
const SHORTEST_SECRET = 4

/** Replaces values from the environment in a message by the names of their variables. */
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
