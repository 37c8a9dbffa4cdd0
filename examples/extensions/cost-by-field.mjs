import { defineExtension } from 'tidegate/extension'

/** Takes the cost of a request from a number in its JSON body, such as the tokens that it asks for. */
export default defineExtension({
  options: {
    type: 'object',
    properties: {
      field: { type: 'string', default: 'max_tokens' },
      per: { type: 'integer', minimum: 1, default: 1000, description: 'Units for a cost of 1' },
      most: {
        type: 'integer',
        minimum: 1,
        default: 100,
        description: 'Highest cost, also without the field',
      },
    },
  },
  create({ options: { field, per, most } }) {
    return {
      cost: {
        body: { max: '64kB', as: 'json' },
        run(_request, body) {
          const units = body?.[field]
          // Who leaves it out must not pay less than who is honest about much.
          if (typeof units !== 'number' || !(units >= 0)) return most
          return Math.min(most, Math.max(1, Math.ceil(units / per)))
        },
      },
    }
  },
})
