import type { FastifyRequest } from 'fastify'
import { ROLES } from '../../config/schema/admin.js'
import type { Problem } from './problem.js'

export type Role = (typeof ROLES)[number]

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Role that the route needs. Default: viewer for a route that reads, operator for one that writes. */
    role?: Role
  }
}

/** For routes that only read although their method is POST. */
export const FOR_VIEWERS = { config: { role: 'viewer' } } as const
/** For routes that change one consumer, which is the work of a support desk. */
export const FOR_SUPPORT = { config: { role: 'support' } } as const

/** Returns the role that a request needs. A path that does not exist needs none: every client may learn that. */
export function roleFor({ method, routeOptions }: Pick<FastifyRequest, 'method' | 'routeOptions'>): Role {
  const reads = method === 'GET' || method === 'HEAD' || routeOptions.url === undefined
  return routeOptions.config?.role ?? (reads ? 'viewer' : 'operator')
}

/** Returns true if a request may have changed something: anything that needs more than the viewer role. */
export function isWrite(request: Parameters<typeof roleFor>[0]): boolean {
  return roleFor(request) !== 'viewer'
}

/**
 * Checks a role against the one that a request needs.
 *
 * @returns the refusal, if the role is not enough
 */
export function roleProblem(who: string, role: Role, needed: Role): Problem | undefined {
  if (ROLES.indexOf(role) >= ROLES.indexOf(needed)) return undefined
  const detail = `This request needs the role ${needed}, and ${who} has ${role}. Ask for that role (admin.tokens), or ask somebody who has it.`
  return { code: 'forbidden', detail }
}
