import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { ForgettableMap, MapHistory } from '../../fleet/replicated-map.js'
import { SPLIT } from '../../fleet/shards.js'
import { refuse } from '../access/problem.js'
import type { AdminDeps } from '../deps.js'
import { withStore } from '../store-down.js'
import { isoOf } from './read-request.js'

/** State of one kind of record in the store, for an operator. */
export type ShownRecords = Readonly<ReturnType<typeof show>>

export interface ShownStore {
  readonly records: readonly ShownRecords[]
  /** Number of shards of each map that grows with users; left out without Redis. */
  readonly shards?: number
  /** True while the records are moved to another number of shards, or after that was interrupted. */
  readonly moving?: boolean
  /** After a move: number of records that were copied, by their name. */
  readonly copied?: Readonly<Record<string, number>>
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

  const shown = async (): Promise<ShownStore> => {
    const records = (await look()).map(([, history]) => show(history))
    const layout = await deps.store().shards?.layout()
    return layout === undefined
      ? { records }
      : { records, shards: layout.shards, moving: layout.other !== undefined }
  }

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

  const move = (action: 'split' | 'join', request: FastifyRequest) =>
    withStore(deps.log, `${action} the store`, async () => {
      const { shards } = deps.store()
      if (shards === undefined)
        return refuse('unprocessable', 'The gateway has no Redis, so there is nothing to split or join.')
      const before = await shards.layout()
      const { moved, copied, ...after } = await shards.move(action === 'split' ? SPLIT : 1)
      if (moved) {
        const is = { shards: before.shards }
        await deps.audit.record(request, {
          action: `store.${action}`,
          target: 'store',
          before: is,
          after: { ...after, copied },
        })
      }
      return { ...(await shown()), copied }
    })

  app.post('/store/split', (request) => move('split', request))

  app.post('/store/join', (request) => move('join', request))

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
