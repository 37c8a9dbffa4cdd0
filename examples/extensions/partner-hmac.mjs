import { createHmac, timingSafeEqual } from 'node:crypto'
import { defineExtension, respond } from 'tidegate/extension'

/** Identifies partners by an HMAC over time, method and target: X-Partner, X-Timestamp (unix seconds), X-Signature (hex). */
export default defineExtension({
  options: {
    type: 'object',
    properties: {
      secrets: { type: 'object', additionalProperties: { type: 'string', minLength: 16, secret: true } },
      tolerance: { type: 'string', format: 'duration', default: '5m' },
    },
    required: ['secrets'],
  },
  create({ options: { secrets, tolerance } }) {
    return {
      identify: {
        explain: true,
        run(request) {
          const partner = request.header('x-partner')
          if (partner === undefined) return undefined // no such credential: the next kind of consumer is tried
          const time = request.header('x-timestamp') ?? ''
          const secret = secrets[partner] ?? 'a secret that no partner has'
          const signed = `${time}\n${request.method}\n${request.path}${request.query}`
          const wanted = createHmac('sha256', secret).update(signed).digest()
          const given = Buffer.from(request.header('x-signature') ?? '', 'hex')
          const right = given.length === wanted.length && timingSafeEqual(given, wanted)
          const fresh = Math.abs(Date.now() - Number(time) * 1000) <= tolerance
          if (!right || !fresh || secrets[partner] === undefined)
            return respond(401, { detail: 'The signature is not valid, or its time is over.' })
          return { consumer: partner }
        },
      },
    }
  },
})
