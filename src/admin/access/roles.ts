import type { FastifyRequest } from 'fastify'
import { ROLES } from '../../config/schema/admin.js'
import type { Problem } from './problem.js'

export type Role = (typeof ROLES)[number]

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Who may ask it. Left out: of what reads a viewer, of what writes an operator. */
    role?: Role
  }
}

/** For routes that answer a question although their method is POST. */
export const FOR_VIEWERS = { config: { role: 'viewer' } } as const
/** For routes that change something of one consumer, which a support desk does. */
export const FOR_SUPPORT = { config: { role: 'support' } } as const

/** What a request takes to be allowed. Nothing is there at an address that is not: anybody may hear so. */
export function roleFor({ method, routeOptions }: Pick<FastifyRequest, 'method' | 'routeOptions'>): Role {
  const reads = method === 'GET' || method === 'HEAD' || routeOptions.url === undefined
  return routeOptions.config?.role ?? (reads ? 'viewer' : 'operator')
}

/** Whether it may have changed something: what a viewer may do has not. */
export function isWrite(request: Parameters<typeof roleFor>[0]): boolean {
  return roleFor(request) !== 'viewer'
}

/** @returns the refusal, if whoever has the role may not do what takes `needed` */
export function roleProblem(who: string, role: Role, needed: Role): Problem | undefined {
  if (ROLES.indexOf(role) >= ROLES.indexOf(needed)) return undefined
  const detail = `This takes the role ${needed}, and ${who} has ${role}; ask somebody who has it, or for it (admin.tokens).`
  return { code: 'forbidden', detail }
}
