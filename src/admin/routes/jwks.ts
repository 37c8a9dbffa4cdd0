import type { FastifyInstance } from 'fastify'
import type { AdminDeps } from '../deps.js'

/**
 * Adds the public keys with which upstreams verify the tokens of the gateway (`identity.jwt`), as a JWK set (RFC 7517).
 */
export function jwksRoutes(app: FastifyInstance, deps: Pick<AdminDeps, 'config'>): void {
  app.get('/jwks.json', async (_request, reply) => {
    reply.header('cache-control', 'public, max-age=60').type('application/jwk-set+json')
    return JSON.stringify({ keys: deps.config.current().publicKeys })
  })
}
