import type { FastifyInstance, FastifyReply } from 'fastify'
import type { ForgettableMap, MapHistory } from '../../fleet/replicated-map.js'
import { sendProblem } from '../access/problem.js'
import type { AdminDeps } from '../deps.js'
import { storeDown } from '../store-down.js'
import { isoOf } from './tier-of.js'

/** State of one kind of record in the store, for an operator. */
export interface ShownRecords {
  /** Kind of record: `API keys`. */
  readonly records: string
  /** `forgotten`: the gateways serve what they had in memory; `lost`: no gateway still has the records. */
  readonly state: 'kept' | 'forgotten' | 'lost'
  /** Number of records that this process serves. */
  readonly held: number
  /** ISO 8601. */
  readonly since: string | null
}

export interface ShownStore {
  readonly records: readonly ShownRecords[]
}

/** Adds the routes that show whether the store has lost records, and that decide which ones are valid then. */
export function storeRoutes(app: FastifyInstance, deps: Pick<AdminDeps, 'store' | 'audit' | 'log'>): void {
  async function look(): Promise<readonly (readonly [ForgettableMap, MapHistory])[]> {
    // Maps are opened on first use; this opens them.
    deps.store().keys.keys()
    return Promise.all(
      deps
        .store()
        .maps()
        .map(async (map) => [map, await map.look()] as const),
    )
  }

  const shown = async (): Promise<ShownStore> => ({
    records: (await look()).map(([, history]) => show(history)),
  })

  async function decide(
    reply: FastifyReply,
    what: 'accept' | 'restore',
    done: (before: readonly ShownRecords[], values: Readonly<Record<string, number>>) => Promise<void>,
  ) {
    try {
      const open = (await look()).filter(([, { forgottenAt }]) => forgottenAt !== undefined)
      if (open.length === 0) {
        const detail = 'The store has forgotten nothing; there is nothing to decide.'
        return sendProblem(reply, { code: 'unprocessable', detail })
      }
      const values: Record<string, number> = {}
      for (const [map, { what: records }] of open) {
        if (what === 'accept') await map.accept()
        const written = what === 'accept' ? map.history().held : await map.restore()
        if (written !== undefined) values[records] = written
      }
      if (Object.keys(values).length === 0) {
        const lost = open.map(([, { what: records }]) => records).join(', ')
        const detail = `No gateway knows any more what there was (${lost}): accept what the store has, and make anew what is missing.`
        return sendProblem(reply, { code: 'unprocessable', detail })
      }
      await done(
        open.map(([, history]) => show(history)),
        values,
      )
      return await shown()
    } catch (error) {
      return sendProblem(reply, storeDown(deps.log, error, `${what} what the store has forgotten`))
    }
  }

  app.get('/store', async (_request, reply) => {
    try {
      return await shown()
    } catch (error) {
      return sendProblem(reply, storeDown(deps.log, error, 'look into the store'))
    }
  })

  app.post('/store/accept', (request, reply) =>
    decide(reply, 'accept', (before, after) =>
      deps.audit.record(request, { action: 'store.accept', target: 'store', before, after }),
    ),
  )

  app.post('/store/restore', (request, reply) =>
    decide(reply, 'restore', (before, after) =>
      deps.audit.record(request, { action: 'store.restore', target: 'store', before, after }),
    ),
  )
}

function show({ what, held, forgottenAt, known }: MapHistory): ShownRecords {
  const state = forgottenAt === undefined ? 'kept' : known ? 'forgotten' : 'lost'
  return { records: what, state, held, since: isoOf(forgottenAt) }
}
