import {
  asList,
  type DraftConfig,
  type Locate,
  named,
  type Path,
  present,
  type Report,
} from '../schema/partial-config.js'
import { suggest } from '../values/nearest-name.js'

/** Returns the places that name an extension. */
export function usesOf({ consumers, services, routes }: DraftConfig): { path: Path; name: string }[] {
  const lists = [
    ...Object.entries(services ?? {}).map(([name, one]) => [['services', name, 'use'], one?.use] as const),
    ...present(routes).map(([i, route]) => [['routes', i, 'use'], route.use] as const),
  ]
  return [
    ...present(consumers).flatMap(([i, source]) =>
      'extension' in source && source.extension !== undefined
        ? [{ path: ['consumers', i, 'extension'], name: source.extension }]
        : [],
    ),
    ...lists.flatMap(([path, use]) => present(use).map(([k, name]) => ({ path: [...path, k], name }))),
  ]
}

/** Checks that the names of extensions exist, once each. What an extension can do is known only when it runs. */
export function checkExtensions(config: DraftConfig, error: Report, warning: Report, locate: Locate): void {
  const names = asList(config.extensions).map((extension) => extension?.name)
  for (const [i, name] of names.entries()) {
    const first = names.indexOf(name)
    if (name === undefined || first === i) continue
    const path = ['extensions', i, 'name']
    const other = locate(['extensions', first], path)
    error(path, `"${name}" is the name of ${other} already; give each extension a name of its own`)
  }
  const used = new Set<string>()
  const seen = new Set<string>()
  for (const { path, name } of usesOf(config)) {
    used.add(name)
    const item = [...path.slice(0, path[0] === 'consumers' ? 1 : -1), name].join('\n')
    if (seen.has(item)) error(path, `"${name}" is listed twice; remove one`)
    seen.add(item)
    // An extension whose name could not be read may be the one.
    if (names.includes(name) || names.includes(undefined)) continue
    error(path, `no extension is named "${name}"; ${suggest(name, named(names), 'extensions')}`)
  }
  for (const [i, name] of names.entries()) {
    if (name !== undefined && !used.has(name))
      warning(['extensions', i, 'name'], `nothing uses "${name}"; name it in consumers or use, or remove it`)
  }
}
