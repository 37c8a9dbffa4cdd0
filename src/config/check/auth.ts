import { asList, type DraftConfig, present, type Report, reportTwice } from '../schema/partial-config.js'

/** Checks the `auth` of routes beyond the schema: a client must be able to have what a route requires. */
export function checkAuth({ consumers, routes }: DraftConfig, error: Report): void {
  // If `consumers` is left out, clients are known by address. If it has a hole, any kind of source may be missing.
  const sources = consumers === undefined ? undefined : asList(consumers)
  const whole = sources?.every((source) => source !== undefined) === true
  const known = new Set(sources?.flatMap((source) => Object.keys(source ?? {})))
  for (const [i, route] of present(routes)) {
    const { auth } = route
    if (auth === undefined) continue
    const path = ['routes', i, 'auth']
    if (Object.hasOwn(route, 'respond')) {
      error(path, 'has no effect next to respond, which needs no credential; remove it')
    }
    for (const list of ['any_of', 'scopes'] as const) reportTwice(auth[list], [...path, list], error)
    if (auth.required === false && (auth.scopes?.length ?? 0) > 0) {
      error([...path, 'required'], 'a client without a credential has no scopes; remove one of the two')
    }
    if (!whole) continue
    for (const [k, kind] of present(auth.any_of)) {
      if (!known.has(kind))
        error([...path, 'any_of', k], `consumers has no ${kind}; add one there, or remove it here`)
    }
    if (
      auth.required === true &&
      !Object.hasOwn(auth, 'forward') &&
      !Object.hasOwn(auth, 'any_of') &&
      [...known].every((kind) => kind === 'ip')
    ) {
      error(path, 'no client can pass: consumers identifies clients only by address; add a credential there')
    }
  }
}
