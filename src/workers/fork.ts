import cluster from 'node:cluster'
import { once } from 'node:events'
import { deferred } from '../common/wait.js'
import type { Question } from '../fleet/question.js'
import { type Answers, type Channel, openChannel } from './channel.js'
import { rescueHandoffs } from './handoff.js'
import { type OfPrimary, type OfWorker, PROTOCOL, type Welcome } from './messages.js'
import type { Child } from './supervisor.js'

/** A worker as the primary sees it. */
export interface Worker extends Child {
  readonly place: number
  readonly channel: Channel<OfWorker>
  /** Asks a question of the admin API. */
  ask<Body, Answer>(question: Question<never, Body, Answer>, body: Body): Promise<Answer>
  /** Returns the addresses once the worker serves. */
  addresses(): readonly string[] | undefined
  /** Returns the hash of the configuration that the worker last reported to be in force. */
  hash(): string | undefined
}

export interface ForkOptions {
  readonly place: number
  readonly welcome: () => Welcome
  /** Answers to all questions of the worker except those about its start. */
  readonly answers: Omit<Answers<OfPrimary>, 'hello' | 'serving' | 'failed'>
}

/** Timeout in ms for a question of the admin API. */
const ASK_MS = 1000
/** Timeout in ms for a question whose answer only confirms its arrival. */
const SAY_MS = 5000

/**
 * Starts this same command again, as a worker. Resolves the path again: after an upgrade in place, or a change of the
 * symbolic link in it, the worker has the new version.
 */
export function forkWorker({ place, welcome, answers }: ForkOptions): Worker {
  cluster.setupPrimary({ exec: process.argv[1]!, args: process.argv.slice(2) })
  const worker = cluster.fork()
  const child = worker.process
  rescueHandoffs(child)
  // A message to a process that has just gone fails; `exit` reports its end.
  worker.on('error', () => {})

  let addresses: readonly string[] | undefined
  let hash: string | undefined
  const { promise: serving, resolve: serves, reject: fails } = deferred()
  serving.catch(() => {})

  const all: Answers<OfPrimary> = {
    ...answers,
    hello({ protocol }) {
      if (protocol !== PROTOCOL) {
        const message = `the installed version uses another protocol for its workers (${protocol}, not ${PROTOCOL}); stop the gateway and start it again`
        fails(new Error(message))
        throw new Error(message)
      }
      return welcome()
    },
    serving(told) {
      addresses = told.addresses ?? [told.address]
      hash = told.hash
      serves()
      return null
    },
    failed({ message }) {
      fails(new Error(message))
      return null
    },
  }
  const channel = openChannel<OfWorker>(worker, all)
  const ended = once(child, 'exit').then(([code, signal]) => {
    const how = signal === null ? `code ${code}` : String(signal)
    fails(new Error(`a worker ended with ${how} before it served; its log lines above say why`))
    return how
  })

  return {
    place,
    pid: child.pid ?? 0,
    channel: {
      async ask(name, question, deadlineMs) {
        const answer = await channel.ask(name, question, deadlineMs)
        if (name === 'reload') hash = (answer as { hash: string }).hash
        return answer
      },
    },
    ask: <Body, Answer>({ name, timeoutMs = ASK_MS }: Question<never, Body, Answer>, body: Body) =>
      (channel as unknown as Channel<Record<string, [Body, Answer]>>).ask(name, body, timeoutMs),
    addresses: () => addresses,
    hash: () => hash,
    serving,
    ended,
    drain(delayMs) {
      // A worker that does not get this is killed in the end.
      channel.ask('drain', { delayMs }, SAY_MS).catch(() => {})
    },
    kill: () => child.kill('SIGKILL'),
  }
}
