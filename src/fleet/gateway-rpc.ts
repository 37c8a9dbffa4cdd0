import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { fieldsOf, parseJson } from '../common/json.js'
import { channelOf } from '../limiter/redis/connect.js'
import { createPresence, type Heartbeat } from '../limiter/redis/heartbeat.js'
import type { Client } from '../limiter/redis/run-script.js'
import { askStore } from '../limiter/redis/store-timeout.js'
import { nameOf } from './gateway-status.js'
import type { Subscriber } from './pubsub.js'

/**
 * Questions and answers between the gateways on one store, for example the decision that another gateway made, or what
 * each has counted. A question is published on one shared channel. Each gateway answers on the channel of the gateway
 * that asked. This serves operators only: no request depends on it, a question waits for its answers, and questions
 * above the rate limit are not asked.
 */
export interface Fleet {
  /** Name of this gateway for other gateways and for operators: `instance`, or host and process id. */
  readonly node: string
  /** Id of this gateway: its name, `~`, and a random part. */
  readonly id: string
  /** Returns the ids of the gateways that answer questions. Rejects when the store does not answer. */
  members(): Promise<readonly string[]>
  /**
   * Asks all other gateways. Never rejects: `problem` in the result says why a question could not be asked.
   *
   * @param body JSON data, at most QUESTION_BYTES
   * @param enough ends the wait when an answer leaves nothing more to ask
   */
  ask<A>(kind: string, body: unknown, options?: AskOptions<A>): Promise<FleetAnswers<A>>
  /**
   * Registers the handler that answers questions of this kind. It returns JSON data, at most ANSWER_BYTES. When it
   * fails, no answer is sent. Undefined: such questions are not answered any more.
   */
  answer(kind: string, handler: ((body: unknown) => unknown) | undefined): void
  close(): Promise<void>
}

export interface AskOptions<A> {
  /** How long to wait for answers, in ms. Default: 1000. */
  readonly timeoutMs?: number
  readonly enough?: (answer: A) => boolean
  /** Asks a single gateway, no matter which. */
  readonly onlyOne?: boolean
  /** Asks this gateway only. Takes the `member` of an earlier answer. */
  readonly to?: string | undefined
}

export interface FleetAnswers<A> {
  readonly answers: readonly { readonly node: string; readonly member: string; readonly answer: A }[]
  /** Gateways that seem to be alive and have not answered. */
  readonly silent: readonly string[]
  /** Why no gateway could be asked, for an operator; undefined if the question was asked. */
  readonly problem: string | undefined
}

export interface FleetOptions {
  /** Store client from `connectStore`. The caller disconnects it. */
  readonly store: Client
  /** The caller closes it. */
  readonly subscriber: Subscriber
  /** True if this process serves requests, and so is one of the gateways that are asked. */
  readonly member: boolean
  /** Name of this gateway. Default: host and process id. */
  readonly node?: string
  /** Keeps this gateway on the list of those that answer. */
  readonly heartbeat: Pick<Heartbeat, 'onBeat'>
}

export const QUESTION_BYTES = 4096
export const ANSWER_BYTES = 262_144
/** Maximum number and length of the answers to one question together, in UTF-16 units. Later answers are ignored. */
const MOST_ANSWERS = 1000
const MOST_TOGETHER = 256 * ANSWER_BYTES
const ASKED_A_SECOND = 10
/** Limits of what a process answers in a second, by number and by bytes: a few long answers cost as much as many short ones. */
const ANSWERS_A_SECOND = 500
const BYTES_A_SECOND = 50 * ANSWER_BYTES
/** How long a question waits for answers by default, in ms. */
const TIMEOUT = 1000
const LOOK_EVERY = 10
const LONGEST_NAME = 300
const AWAY = 'the store is out of reach'
/** Problem of a question that was rejected by the rate limit. A second later it may pass. */
export const TOO_MANY = 'too many questions in one second'
const DEAF = 'the Redis user may not subscribe to the channels nodes:*'
const KEY = 'nodes:{fleet}'

/** Fleet of a process whose store is its own memory: it has no other gateways. */
export const LONE_FLEET = loneFleet(nodeName())

export function loneFleet(node: string): Fleet {
  return {
    node,
    id: `${node}~`,
    members: async () => [],
    ask: async () => ({ answers: [], silent: [], problem: undefined }),
    answer() {},
    async close() {},
  }
}

/** Returns `host:pid`. One host may run several gateways, and two hosts may use the same process ids. */
function nodeName(): string {
  return `${hostname()}:${process.pid}`
}

type Hear = (from: string, answer: unknown, length: number) => void

export function createFleet({
  store,
  subscriber,
  member,
  node = LONE_FLEET.node,
  heartbeat,
}: FleetOptions): Fleet {
  // Containers may share a host name, and the process id is 1 in each of them.
  const self = `${node}~${randomUUID().slice(0, 8)}`
  const questions = channelOf(store, 'nodes:ask')
  const answersOf = (name: string) => channelOf(store, `nodes:answer:${name}`)
  const handlers = new Map<string, (body: unknown) => unknown>()
  const waiting = new Map<number, Hear>()
  const mayAsk = atMost(ASKED_A_SECOND)
  const mayAnswer = atMost(ANSWERS_A_SECOND)
  const maySend = atMost(BYTES_A_SECOND)
  const presence = member ? createPresence(store, KEY, self, heartbeat) : undefined
  let count = 0
  let closed = false

  function onAnswer(message: string): void {
    if (waiting.size === 0) return
    const found = readMessage(message, ANSWER_BYTES)
    if (found !== undefined) waiting.get(found.id)?.(found.from, found.body, message.length)
  }

  async function onQuestion(message: string): Promise<void> {
    const asked = readMessage(message, QUESTION_BYTES)
    const handler = asked?.kind === undefined ? undefined : handlers.get(asked.kind)
    if (asked === undefined || handler === undefined || asked.from === self) return
    if ((asked.to !== undefined && asked.to !== self) || !maySend(0) || !mayAnswer()) return
    try {
      const answer = handler(asked.body)
      // An answer that is there is counted at once: many questions may come in one read.
      const body = (answer instanceof Promise ? await answer : answer) ?? null
      const text = JSON.stringify({ id: asked.id, from: self, body })
      const bytes = Buffer.byteLength(text)
      maySend(bytes)
      if (!closed && bytes <= ANSWER_BYTES) await store.publish(answersOf(asked.from), text)
    } catch {
      // A gateway whose handler fails counts as silent for the gateway that asked.
    }
  }

  subscriber.listen(answersOf(self), onAnswer)
  if (member) subscriber.listen(questions, (message) => void onQuestion(message))

  /** Returns the live gateways except this one. A new process first waits until its own channel is subscribed. */
  async function others(until: number): Promise<Set<string>> {
    while (!subscriber.hears(answersOf(self))) {
      if (performance.now() + LOOK_EVERY > until) throw new Error(store.status === 'ready' ? DEAF : AWAY)
      await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY))
    }
    const names = await members(until - performance.now())
    return new Set(names.filter((name) => name !== self))
  }

  const members = (timeoutMs: number) => askStore(timeoutMs, store.zrangebyscore(KEY, '-inf', '+inf'))

  /** Resolves when all gateways have answered, when an answer is enough, or at the timeout. */
  function collect<A>(
    id: number,
    missing: Set<string>,
    until: number,
    enough: AskOptions<A>['enough'],
  ): { heard: { node: string; member: string; answer: A }[]; over: Promise<void> } {
    const heard: { node: string; member: string; answer: A }[] = []
    const senders = new Set<string>()
    let together = 0
    const over = new Promise<void>((resolve) => {
      const timer = setTimeout(done, Math.max(0, until - performance.now()))
      function done(): void {
        clearTimeout(timer)
        waiting.delete(id)
        resolve()
      }
      waiting.set(id, (from, answer, length) => {
        together += length
        if (senders.size >= MOST_ANSWERS || together > MOST_TOGETHER || senders.has(from)) return
        senders.add(from)
        heard.push({ node: nameOf(from), member: from, answer: answer as A })
        missing.delete(from)
        if (missing.size === 0 || enough?.(answer as A) === true) done()
      })
    })
    return { heard, over }
  }

  return {
    node,
    id: self,
    members: () => members(TIMEOUT),
    async ask<A>(
      kind: string,
      body: unknown,
      { timeoutMs = TIMEOUT, enough, onlyOne, to }: AskOptions<A> = {},
    ) {
      const nobody = (problem: string | undefined): FleetAnswers<A> => ({ answers: [], silent: [], problem })
      const id = ++count
      const textTo = (to?: string) => JSON.stringify({ id, from: self, to, kind, body })
      // The names are not known yet, so this assumes the longest possible one.
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
      if (handler === undefined) handlers.delete(kind)
      else handlers.set(kind, handler)
    },
    async close() {
      closed = true
      await presence?.close()
    },
  }
}

interface Message {
  readonly id: number
  readonly from: string
  /** The only gateway that is asked; undefined if all are. */
  readonly to: string | undefined
  readonly kind: string | undefined
  readonly body: unknown
}

/**
 * Parses a message. Returns undefined for anything that is not one of ours: any client with access to the store may
 * publish.
 */
function readMessage(text: string, most: number): Message | undefined {
  // `most` is in bytes. A text never has more UTF-16 units than bytes.
  if (text.length > most) return undefined
  const { id, from, to, kind, body } = fieldsOf(parseJson(text))
  if (typeof id !== 'number' || typeof from !== 'string' || from.length > LONGEST_NAME) return undefined
  const textOf = (value: unknown) => (typeof value === 'string' ? value : undefined)
  return { id, from, to: textOf(to), kind: textOf(kind), body }
}

/** Returns a rate limiter: true if no more than that has been used in the present second, with this amount. */
function atMost(aSecond: number): (amount?: number) => boolean {
  let since = Number.NEGATIVE_INFINITY
  let count = 0
  return (amount = 1) => {
    const now = performance.now()
    if (now - since >= 1000) {
      since = now
      count = 0
    }
    count += amount
    return count <= aSecond
  }
}
