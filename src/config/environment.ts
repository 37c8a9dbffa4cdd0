export interface Substitution {
  readonly text: string
  /** Whether anything came from the environment, so that the text is not to be shown. */
  readonly replaced: boolean
  readonly problems: readonly { readonly offset: number; readonly wrong: string; readonly fix: string }[]
}

const REFERENCE = /\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})?/g

/**
 * Puts the environment into one scalar: `${NAME}`, `${NAME:-default}` when NAME is unset or empty, and `$${` for a
 * plain `${`. What is put in is text: it is not looked at again, and it never becomes structure.
 */
export function substitute(text: string, env: NodeJS.ProcessEnv): Substitution {
  if (!text.includes('${')) return { text, replaced: false, problems: [] }
  const problems: { offset: number; wrong: string; fix: string }[] = []
  let replaced = false
  const result = text.replace(
    REFERENCE,
    (match, name: string | undefined, fallback: string | undefined, offset: number) => {
      if (match === '$${') return '${'
      if (name === undefined) {
        problems.push({
          offset,
          wrong: 'holds a "${" that is not a reference to the environment',
          fix: 'write ${NAME} or ${NAME:-default}, or $${ for a plain ${',
        })
        return ''
      }
      replaced = true
      const value = env[name]
      if (fallback !== undefined) return value === undefined || value === '' ? fallback : value
      if (value === undefined) {
        problems.push({
          offset,
          wrong: `the environment has no ${name}`,
          fix: `set it, or give a default: \${${name}:-default}`,
        })
      }
      return value ?? ''
    },
  )
  return { text: result, replaced, problems }
}
