import type { FastifyInstance } from 'fastify'

/** Adds the route that says whose token a request has, and what its role is. */
export function whoamiRoutes(app: FastifyInstance): void {
  app.get('/whoami', async ({ actor: { who, role } }) => ({ who, role }))
}
