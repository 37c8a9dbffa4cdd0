/**
 * The peers, as their READMEs show them: `pair` is @fastify/http-proxy + @fastify/rate-limit on Redis, `proxy` is
 * the first alone. Logger off and no metrics, which is to their advantage; request ids on, as for Tidegate.
 */
import proxy from '@fastify/http-proxy'
import rateLimit from '@fastify/rate-limit'
import Fastify from 'fastify'
import { Redis } from 'ioredis'

const { mode, upstream, redisPort, limits, autoPipelining } = JSON.parse(process.argv[2])

const app = Fastify({ logger: false, requestIdHeader: 'x-request-id', keepAliveTimeout: 72_000 })
app.addHook('onRequest', (request, reply, done) => {
  reply.header('x-request-id', request.id)
  done()
})

const replyOptions = {
  rewriteRequestHeaders: (request, headers) => ({ ...headers, 'x-request-id': request.id }),
}

if (mode === 'proxy') {
  for (const prefix of Object.keys(limits)) await app.register(proxy, { upstream, prefix, replyOptions })
} else {
  const redis = new Redis({
    port: redisPort,
    connectTimeout: 500,
    maxRetriesPerRequest: 1,
    enableAutoPipelining: autoPipelining,
  })
  // One scope for each prefix: the plugin's limit is global to the scope that it is registered in.
  for (const [prefix, max] of Object.entries(limits)) {
    await app.register(async (scope) => {
      await scope.register(rateLimit, {
        max,
        timeWindow: '1 minute',
        redis,
        nameSpace: `pair:${prefix}:`,
        keyGenerator: (request) => request.headers['x-user-id'],
      })
      await scope.register(proxy, { upstream, prefix, replyOptions })
    })
  }
}

await app.listen({ port: 0, host: '127.0.0.1', backlog: 8192 })
process.send({ port: app.server.address().port })
process.on('disconnect', () => process.exit(0))
