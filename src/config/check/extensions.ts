import {
  asList,
  type DraftConfig,
  type Locate,
  named,
  type Path,
  present,
  type Report,
  reportTwice,
} from '../schema/partial-config.js'
import { suggest } from '../values/nearest-name.js'

/** Checks that the names of extensions exist, once each. What an extension can do is known only when it runs. */
export function checkExtensions(
  { extensions, consumers, services, routes }: DraftConfig,
  error: Report,
  warning: Report,
  locate: Locate,
): void {
  const names = asList(extensions).map((extension) => extension?.name)
  for (const [i, name] of names.entries()) {
    const first = names.indexOf(name)
    if (name === undefined || first === i) continue
    const path = ['extensions', i, 'name']
    const other = locate(['extensions', first], path)
    error(path, `"${name}" is the name of ${other} already; give each extension a name of its own`)
  }
  const used = new Set<string>()
  const use = (name: string | undefined, path: Path) => {
    if (name === undefined) return
    used.add(name)
    // An extension whose name could not be read may be the one.
    if (names.includes(name) || names.includes(undefined)) return
    error(path, `no extension is named "${name}"; ${suggest(name, named(names), 'extensions')}`)
  }
  for (const [i, source] of present(consumers)) {
    if (!('extension' in source)) continue
    const path = ['consumers', i, 'extension']
    const before = asList(consumers).findIndex(
      (one) => one && 'extension' in one && one.extension === source.extension,
    )
    if (source.extension !== undefined && before < i)
      error(path, `"${source.extension}" is listed twice; remove one`)
    use(source.extension, path)
  }
  const uses = [
    ...Object.entries(services ?? {}).map(
      ([name, service]) => [['services', name, 'use'], service?.use] as const,
    ),
    ...present(routes).map(([i, route]) => [['routes', i, 'use'], route.use] as const),
  ]
  for (const [path, list] of uses) {
    reportTwice(list, path, error)
    for (const [k, name] of present(list)) use(name, [...path, k])
  }
  for (const [i, name] of names.entries()) {
    if (name !== undefined && !used.has(name))
      warning(['extensions', i, 'name'], `nothing uses "${name}"; name it in consumers or use, or remove it`)
  }
}
