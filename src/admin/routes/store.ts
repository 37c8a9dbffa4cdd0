import type { FastifyInstance } from 'fastify'
import type { ForgettableMap, MapHistory } from '../../fleet/replicated-map.js'
import { refuse } from '../access/problem.js'
import type { AdminDeps } from '../deps.js'
import { withStore } from '../store-down.js'
import { isoOf } from './read-request.js'

/** State of one kind of record in the store, for an operator. */
export type ShownRecords = Readonly<ReturnType<typeof show>>

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

  const decide = (
    what: 'accept' | 'restore',
    done: (before: readonly ShownRecords[], values: Readonly<Record<string, number>>) => Promise<void>,
  ) =>
    withStore(deps.log, `${what} what the store has forgotten`, async () => {
      const open = (await look()).filter(([, { forgottenAt }]) => forgottenAt !== undefined)
      if (open.length === 0)
        refuse('unprocessable', 'The store has forgotten nothing; there is nothing to decide.')
      const values: Record<string, number> = {}
      for (const [map, { what: records }] of open) {
        if (what === 'accept') await map.accept()
        const written = what === 'accept' ? map.history().held : await map.restore()
        if (written !== undefined) values[records] = written
      }
      if (Object.keys(values).length === 0) {
        const lost = open.map(([, { what: records }]) => records).join(', ')
        refuse(
          'unprocessable',
          `No gateway still has what the store has forgotten (${lost}). Accept what the store has, and create again what is missing.`,
        )
      }
      const before = open.map(([, history]) => show(history))
      await done(before, values)
      return shown()
    })

  app.get('/store', () => withStore(deps.log, 'look into the store', shown))

  app.post('/store/accept', (request) =>
    decide('accept', (before, after) =>
      deps.audit.record(request, { action: 'store.accept', target: 'store', before, after }),
    ),
  )

  app.post('/store/restore', (request) =>
    decide('restore', (before, after) =>
      deps.audit.record(request, { action: 'store.restore', target: 'store', before, after }),
    ),
  )
}

function show({ what, held, isWhole, forgottenAt, known }: MapHistory) {
  // `forgotten`: the gateways serve what they had in memory; `lost`: no gateway still has the records.
  const lost = known ? ('forgotten' as const) : ('lost' as const)
  const state = forgottenAt === undefined ? ('kept' as const) : lost
  return { records: what, state, held, whole: isWhole, since: isoOf(forgottenAt) }
}
