import type { Config } from '../schema/schema.js'
import type { Route } from './snapshot.js'

/** A route for a program. Nothing in it is a secret. A member that is undefined is left out of the JSON. */
export type RouteData = ReturnType<typeof routeData>

/** Returns what a route matches, beside its hosts, where it leads, what a request costs, and which credentials it takes. */
export function routeData({ routes }: Config, route: Route) {
  const { index, service, cost, costFrom: from, costHeader, path, methods } = route
  const { split, respond, mirror, refund_on, auth } = routes[index]!
  return {
    path,
    methods,
    ...(respond === undefined ? { service: service.name } : { respond: respond.status }),
    split,
    mirror,
    cost,
    cost_from: from && { header: from.header, max: from.max, consumers: [...from.consumers] },
    refund_on,
    cost_header: costHeader,
    auth: auth && {
      any_of: auth.any_of,
      required: auth.required,
      scopes: auth.scopes,
      // The whole URL may hold a secret.
      forward: auth.forward && new URL(auth.forward.url).host,
    },
  }
}
