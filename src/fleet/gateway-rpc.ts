import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { createNodes } from '../limiter/redis/heartbeat.js'
import type { Client } from '../limiter/redis/scripts.js'
import { askStore } from '../limiter/redis/store-timeout.js'
import { channelOf, type Subscriber } from './pubsub.js'

/**
 * What the gateways on one store ask each other: a decision that another has made, what each has counted. A question
 * goes out on one channel, and each answers on the channel of the one who asked. For operators: nothing here is asked for
 * a request, a question waits for its answers, and what is asked too often is not asked.
 */
export interface Fleet {
  /** This gateway, as the others and people see it: host and process id. */
  readonly node: string
  /**
   * Asks all other gateways. Never rejects: what could not be asked is told.
   *
   * @param body data that JSON keeps, at most QUESTION_BYTES of it
   * @param enough ends the wait at an answer that leaves nothing more to ask
   */
  ask<A>(kind: string, body: unknown, options?: AskOptions<A>): Promise<FleetAnswers<A>>
  /** What this gateway answers to such questions: data that JSON keeps, at most ANSWER_BYTES of it. A failure is no answer. */
  answer(kind: string, handler: (body: unknown) => unknown): void
  close(): Promise<void>
}

export interface AskOptions<A> {
  /** Ms, by default 1000. */
  readonly timeoutMs?: number
  readonly enough?: (answer: A) => boolean
  /** Asks one of them, whichever it is. */
  readonly onlyOne?: boolean
  /** Asks this one alone: the `member` of an answer. */
  readonly to?: string | undefined
}

export interface FleetAnswers<A> {
  readonly answers: readonly { readonly node: string; readonly member: string; readonly answer: A }[]
  /** Gateways that are believed to live and have not answered. */
  readonly silent: readonly string[]
  /** Why nobody could be asked, for an operator. */
  readonly problem: string | undefined
}

export interface FleetOptions {
  /** From `connectStore`; stays the caller's to disconnect. */
  readonly store: Client
  /** Stays the caller's to close. */
  readonly subscriber: Subscriber
  /** Whether this process serves, and so is one of those that are asked. */
  readonly member: boolean
}

export const QUESTION_BYTES = 4096
export const ANSWER_BYTES = 262_144
/** Of one question, whoever sends them. */
const MOST_ANSWERS = 1000
const ASKED_A_SECOND = 10
const ANSWERED_A_SECOND = 50
/** Ms. */
const TIMEOUT = 1000
const LOOK_EVERY = 10
const LONGEST_NAME = 300
const AWAY = 'the store is out of reach'
/** The problem of a question that was not asked: another second, and it may be. */
export const TOO_MANY = 'too many questions in one second'
const DEAF = 'the store does not let its user listen to the channels nodes:*'
const KEY = 'nodes:{fleet}'

/** For a process whose store is its own memory. */
export const LONE_FLEET: Fleet = {
  node: nodeName(),
  ask: async () => ({ answers: [], silent: [], problem: undefined }),
  answer() {},
  async close() {},
}

/** One host may have several gateways, and two hosts may have the same process ids. */
export function nodeName(): string {
  return `${hostname()}:${process.pid}`
}

type Hear = (from: string, answer: unknown) => void

export function createFleet({ store, subscriber, member }: FleetOptions): Fleet {
  const node = nodeName()
  // Containers may share a name, and each of them calls its process 1.
  const self = `${node}~${randomUUID().slice(0, 8)}`
  const questions = channelOf(store, 'nodes:ask')
  const answersOf = (name: string) => channelOf(store, `nodes:answer:${name}`)
  const handlers = new Map<string, (body: unknown) => unknown>()
  const waiting = new Map<number, Hear>()
  const mayAsk = atMost(ASKED_A_SECOND)
  const mayAnswer = atMost(ANSWERED_A_SECOND)
  const nodes = member ? createNodes(store, KEY, self) : undefined
  let count = 0
  let closed = false

  function onAnswer(message: string): void {
    const found = readMessage(message, ANSWER_BYTES)
    if (found !== undefined) waiting.get(found.id)?.(found.from, found.body)
  }

  async function onQuestion(message: string): Promise<void> {
    const asked = readMessage(message, QUESTION_BYTES)
    const handler = asked?.kind === undefined ? undefined : handlers.get(asked.kind)
    if (asked === undefined || handler === undefined || asked.from === self) return
    if ((asked.to !== undefined && asked.to !== self) || !mayAnswer()) return
    try {
      const text = JSON.stringify({ id: asked.id, from: self, body: (await handler(asked.body)) ?? null })
      if (!closed && Buffer.byteLength(text) <= ANSWER_BYTES) await store.publish(answersOf(asked.from), text)
    } catch {
      // To whoever asked, one that fails is one that is silent.
    }
  }

  subscriber.listen(answersOf(self), onAnswer)
  if (member) subscriber.listen(questions, (message) => void onQuestion(message))

  /** Those that live, but this one. A process that has just come has to wait for its own ear first. */
  async function others(until: number): Promise<Set<string>> {
    while (!subscriber.hears(answersOf(self))) {
      if (performance.now() + LOOK_EVERY > until) throw new Error(store.status === 'ready' ? DEAF : AWAY)
      await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY))
    }
    const names = await askStore(until - performance.now(), store.zrangebyscore(KEY, '-inf', '+inf'))
    return new Set(names.filter((name) => name !== self))
  }

  /** Resolves when all have answered, or one has said enough, or it is too late. */
  function collect<A>(
    id: number,
    missing: Set<string>,
    until: number,
    enough: AskOptions<A>['enough'],
  ): { heard: { node: string; member: string; answer: A }[]; over: Promise<void> } {
    const heard: { node: string; member: string; answer: A }[] = []
    const over = new Promise<void>((resolve) => {
      const timer = setTimeout(done, Math.max(0, until - performance.now()))
      function done(): void {
        clearTimeout(timer)
        waiting.delete(id)
        resolve()
      }
      waiting.set(id, (from, answer) => {
        if (heard.length < MOST_ANSWERS) heard.push({ node: nameOf(from), member: from, answer: answer as A })
        missing.delete(from)
        if (missing.size === 0 || enough?.(answer as A) === true) done()
      })
    })
    return { heard, over }
  }

  return {
    node,
    async ask<A>(
      kind: string,
      body: unknown,
      { timeoutMs = TIMEOUT, enough, onlyOne, to }: AskOptions<A> = {},
    ) {
      const nobody = (problem: string | undefined): FleetAnswers<A> => ({ answers: [], silent: [], problem })
      const id = ++count
      const textTo = (to?: string) => JSON.stringify({ id, from: self, to, kind, body })
      // Names are not known yet: with the longest there may be.
      const text = textTo(onlyOne ? 'x'.repeat(LONGEST_NAME) : to)
      if (Buffer.byteLength(text) > QUESTION_BYTES) return nobody('the question is too long')
      if (!mayAsk()) return nobody(TOO_MANY)
      const until = performance.now() + timeoutMs
      try {
        const all = await others(until)
        const one = to ?? (onlyOne ? all.values().next().value : undefined)
        if (all.size === 0) return nobody(undefined)
        const missing = one === undefined ? all : new Set([one])
        const { heard, over } = collect(id, missing, until, enough)
        await askStore(timeoutMs, store.publish(questions, textTo(one)))
        await over
        return { answers: heard, silent: [...missing].map(nameOf), problem: undefined }
      } catch (error) {
        return nobody((error as Error).message)
      }
    },
    answer(kind, handler) {
      handlers.set(kind, handler)
    },
    async close() {
      closed = true
      await nodes?.close()
    },
  }
}

function nameOf(member: string): string {
  return member.slice(0, member.lastIndexOf('~') >>> 0)
}

interface Message {
  readonly id: number
  readonly from: string
  /** The only one who is asked; undefined: all are. */
  readonly to: string | undefined
  readonly kind: string | undefined
  readonly body: unknown
}

/** Anybody with access to the store may publish anything: what is no message of ours is none. */
function readMessage(text: string, most: number): Message | undefined {
  // In UTF-16 units, of which a byte makes one at most.
  if (text.length > most) return undefined
  try {
    const { id, from, to, kind, body } = JSON.parse(text) as Record<string, unknown>
    if (typeof id !== 'number' || typeof from !== 'string' || from.length > LONGEST_NAME) return undefined
    const textOf = (value: unknown) => (typeof value === 'string' ? value : undefined)
    return { id, from, to: textOf(to), kind: textOf(kind), body }
  } catch {
    return undefined
  }
}

/** Whether one more may be in this second. */
function atMost(aSecond: number): () => boolean {
  let since = Number.NEGATIVE_INFINITY
  let count = 0
  return () => {
    const now = performance.now()
    if (now - since >= 1000) {
      since = now
      count = 0
    }
    count++
    return count <= aSecond
  }
}
