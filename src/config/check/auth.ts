import { asList, type DraftConfig, type Say, twice } from '../schema/partial-config.js'

/** Checks the `auth` of routes beyond the schema: a client must be able to have what a route requires. */
export function checkAuth({ consumers, routes }: DraftConfig, error: Say): void {
  // If `consumers` is left out, clients are known by address. If it has a hole, any kind of source may be missing.
  const sources = consumers === undefined ? undefined : asList(consumers)
  const whole = sources?.every((source) => source !== undefined) === true
  const known = new Set(sources?.flatMap((source) => Object.keys(source ?? {})))
  for (const [i, route] of asList(routes).entries()) {
    const auth = route?.auth
    if (auth === undefined) continue
    const path = ['routes', i, 'auth']
    if (Object.hasOwn(route!, 'respond')) {
      error(path, 'given next to respond, which asks nobody who is calling; remove it')
    }
    for (const list of ['any_of', 'scopes'] as const) {
      for (const [k, name] of twice(auth[list]))
        error([...path, list, k], `${name} is listed twice; remove one`)
    }
    if (auth.required === false && (auth.scopes?.length ?? 0) > 0) {
      error([...path, 'required'], 'a caller without a credential has no scopes; remove one of the two')
    }
    if (!whole) continue
    for (const [k, kind] of asList(auth.any_of).entries()) {
      if (kind === undefined || known.has(kind)) continue
      error([...path, 'any_of', k], `consumers has no ${kind}; add one there, or remove it here`)
    }
    if (
      auth.required === true &&
      !Object.hasOwn(auth, 'any_of') &&
      [...known].every((kind) => kind === 'ip')
    ) {
      error(
        path,
        'consumers knows callers by their address only, so that nobody gets through; add a credential there',
      )
    }
  }
}
