import type { FastifyInstance } from 'fastify'
import type { Question } from '../../fleet/question.js'
import type { MeterInterval, Metering, MeterState } from '../../metering/metering.js'
import { refuse } from '../access/problem.js'
import type { AdminDeps } from '../deps.js'
import { bodyWith, countIn, type QueryOf, readQuery } from './read-request.js'

/** Response of `GET /meter`. */
export interface MeterAnswer {
  /** State of each process that serves requests. */
  readonly processes: readonly MeterState[]
  /** Latest intervals of the consumer or tenant that was named, newest first; without one none. */
  readonly intervals: readonly MeterInterval[]
}

export interface MeterParts {
  readonly metering: Metering | undefined
}

export interface MeterBody {
  readonly consumer: string | undefined
  readonly n: number
}

/** Asks for the state of the metering, and what one consumer has used. */
export const METER: Question<MeterParts, MeterBody, MeterAnswer> = {
  name: 'meter',
  async answer({ metering }, { consumer, n }) {
    if (metering === undefined) return { processes: [], intervals: [] }
    const intervals = consumer === undefined ? [] : await metering.latest(consumer, n)
    return { processes: [metering.state()], intervals }
  },
  merge: (answers) => ({
    processes: answers.flatMap(({ processes }) => processes),
    intervals: answers
      .flatMap(({ intervals }) => intervals)
      .sort((a, b) => (a.event.time < b.event.time ? 1 : a.event.time > b.event.time ? -1 : 0)),
  }),
  timeoutMs: 5000,
}

/** Sends intervals again. */
export const RESEND: Question<MeterParts, { readonly from: number; readonly to: number }, number> = {
  name: 'meter-resend',
  answer: ({ metering }, { from, to }) => metering?.resend(from, to) ?? 0,
  merge: (answers) => answers.reduce((sum, one) => sum + one, 0),
  timeoutMs: 5000,
}

interface BodyOf {
  readonly Body: unknown
}

const INTERVALS = 10
const MOST_INTERVALS = 100

/** Adds the routes that show what is metered, and that send intervals again. */
export function meterRoutes(app: FastifyInstance, deps: Pick<AdminDeps, 'config' | 'ask' | 'audit'>): void {
  function checkMetered(): void {
    if (deps.config.current().config.metering === undefined)
      refuse('unprocessable', 'This gateway meters nothing. Add metering to its configuration.')
  }

  app.get<QueryOf>('/meter', async (request) => {
    checkMetered()
    const { consumer, n = String(INTERVALS) } = readQuery(request.query, ['consumer', 'n'])
    const asked = { consumer, n: countIn(n, 'intervals', MOST_INTERVALS) }
    return (await deps.ask(METER, asked)) ?? { processes: [], intervals: [] }
  })

  app.post<BodyOf>('/meter/resend', async (request) => {
    checkMetered()
    const { from: text, to: end } = bodyWith(request.body, ['from', 'to']) ?? {}
    const [from, to] = [text, end].map((time) => (typeof time === 'string' ? Date.parse(time) : Number.NaN))
    if (!(from! < to!))
      return refuse(
        'bad_request',
        'Send {"from":TIME,"to":TIME} as JSON, with times in ISO 8601, from before to.',
      )
    const intervals = (await deps.ask(RESEND, { from: from!, to: to! })) ?? 0
    await deps.audit.record(request, {
      action: 'meter.resend',
      target: `${text} ${end}`,
      before: undefined,
      after: { intervals },
    })
    return { intervals }
  })
}
