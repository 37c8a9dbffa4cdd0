import { formatDuration } from '../config/quantities.js'
import { defineCommand, WrongUse } from './command.js'
import { CONFIG_HELP, CONFIG_OPTION } from './config-file.js'
import { foundBy } from './found-by.js'
import { print, printJson, table } from './terminal.js'

interface Usage {
  readonly tier: string
  readonly tier_from: string
  readonly unlimited: boolean
  readonly limits: readonly {
    readonly name: string
    readonly amount: number
    readonly window_ms: number
    readonly used: number
    readonly remaining: number
    readonly reset_ms: number
  }[]
}

export const command = defineCommand({
  name: 'usage',
  help: `Usage: tidegate usage SERVICE CONSUMER [--reset] [--tier TIER] [--config FILE] [--json]

Shows what a consumer has used of a service and what remains, or forgets it.

Options:
  --reset             forget what the consumer has used of the service
  --tier TIER         for a consumer whose tier comes with a credential that the configuration does not list
${CONFIG_HELP}
  --json              print JSON

With store.redis in the configuration the store is asked; without, the running gateway, at admin.listen.`,
  options: {
    config: CONFIG_OPTION,
    reset: { type: 'boolean' },
    tier: { type: 'string' },
    json: { type: 'boolean' },
  },
  positionals: ['SERVICE', 'CONSUMER'],
  required: 2,
  async run({ config, reset, tier, json }, [service = '', consumer = '']) {
    if (reset && tier !== undefined) {
      throw new WrongUse('tidegate usage: --reset forgets the usage under every tier; leave --tier out')
    }
    // Here, and not on top: wrong use and --help have no need of the store.
    const { openControl } = await import('./control.js')
    const control = await openControl('usage', config)
    try {
      const path = `/usage/${encodeURIComponent(service)}/${encodeURIComponent(consumer)}`
      if (reset) {
        const done = await control.call('DELETE', path)
        if (json) printJson(done)
        else print(`${consumer} has used nothing of ${service} any more`)
        return 0
      }
      const query = tier === undefined ? '' : `?tier=${encodeURIComponent(tier)}`
      const usage = await control.call<Usage>('GET', path + query)
      if (json) printJson(usage)
      else print(describe(service, consumer, usage))
      return 0
    } finally {
      await control.close()
    }
  },
})

function describe(service: string, consumer: string, usage: Usage): string {
  const head = `${consumer} on ${service}: tier ${usage.tier}, ${foundBy(usage.tier_from)}`
  if (usage.unlimited) return `${head}; unlimited, nothing is counted`
  const rows = usage.limits.map((limit) => [
    limit.name,
    `${limit.amount} in ${formatDuration(limit.window_ms)}`,
    String(limit.used),
    String(limit.remaining),
    `${Math.ceil(limit.reset_ms / 1000)} s`,
  ])
  return `${head}\n\n${table([['limit', 'amount', 'used', 'remaining', 'window ends in'], ...rows], 2)}`
}
