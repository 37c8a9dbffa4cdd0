import { defineExtension } from 'tidegate/extension'

const JSON_TYPE = /^application\/(?:[\w.-]+\+)?json\b/i

/** Removes members from JSON responses, at any depth, unless the tier of the consumer may see them. */
export default defineExtension({
  options: {
    type: 'object',
    properties: {
      members: { type: 'array', items: { type: 'string' }, minItems: 1 },
      tiers: { type: 'array', items: { type: 'string' }, default: [], description: 'Tiers that see all' },
    },
    required: ['members'],
  },
  create({ options: { members, tiers } }) {
    const hidden = new Set(members)
    return {
      onResponse: {
        body: { max: '256kB', as: 'text' },
        run(request, response, body) {
          if (!body || tiers.includes(request.tier) || !JSON_TYPE.test(response.header('content-type') ?? ''))
            return undefined
          // What is no JSON throws here: the client gets nothing that was not checked.
          const rest = JSON.parse(body, (name, value) => (hidden.has(name) ? undefined : value))
          return { body: JSON.stringify(rest) }
        },
      },
    }
  },
})
