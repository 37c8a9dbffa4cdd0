import { parseDocument } from 'yaml'

/**
 * Returns a configuration as tests start it: as it is, or without the plain path and the connection for decisions in the run of
 * `test:long` that sets `PLAIN_PATHS=off`. Only this file reads that variable.
 */
export function withPaths(yaml: string): string {
  return process.env.PLAIN_PATHS === 'off' ? withoutPaths(yaml) : yaml
}

/** Returns a configuration with `server.plain_path` and `store.own_connection` off, unless it names them or cannot be read. */
export function withoutPaths(yaml: string): string {
  const file = parseDocument(yaml)
  if (file.errors.length > 0) return yaml
  for (const key of [
    ['server', 'plain_path'],
    ['store', 'own_connection'],
  ]) {
    if (!file.hasIn(key)) file.setIn(key, false)
  }
  // The lines keep their numbers, which messages name.
  return `${/^\n*/.exec(yaml)![0]}${file.toString({ lineWidth: 0 })}`
}
