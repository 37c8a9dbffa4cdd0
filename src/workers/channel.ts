import type { Serializable } from 'node:child_process'

/** One end of the pipe between two processes: `process` in a worker, its `Worker` in the primary. */
export interface Line {
  send?(
    message: Serializable,
    handle: undefined,
    options: undefined,
    sent: (error: Error | null) => void,
  ): unknown
  on(event: 'message', listener: (message: unknown) => void): unknown
  on(event: 'disconnect' | 'exit', listener: () => void): unknown
}

/** Questions by name, each with the types of the question and its answer. Both are JSON data. */
export type Questions = Record<string, readonly [question: unknown, answer: unknown]>

export type Answers<Q extends Questions> = {
  readonly [K in keyof Q]: (question: Q[K][0]) => Q[K][1] | Promise<Q[K][1]>
}

export interface Channel<Q extends Questions> {
  /**
   * Asks the other side. Rejects when no answer has come within `deadlineMs`, when the other side failed, or when it is
   * gone.
   */
  ask<K extends keyof Q & string>(name: K, question: Q[K][0], deadlineMs: number): Promise<Q[K][1]>
}

/** Thrown when the other process is gone. Needs no log line: the end of the process has its own. */
export class ProcessGone extends Error {
  constructor() {
    super('the process is gone')
  }
}

interface Waiting {
  readonly resolve: (answer: never) => void
  readonly reject: (error: Error) => void
  readonly timer: NodeJS.Timeout
}

/**
 * Opens a channel for questions and answers between the primary and a worker, in both directions. A late answer is
 * dropped; a question to a process that is gone rejects at once.
 */
export function openChannel<Q extends Questions>(line: Line, answers: object): Channel<Q> {
  const handlers = answers as Readonly<Record<string, (question: unknown) => unknown>>
  const waiting = new Map<number, Waiting>()
  let count = 0
  let gone = false

  const settle = (id: number) => {
    const found = waiting.get(id)
    waiting.delete(id)
    clearTimeout(found?.timer)
    return found
  }

  const leave = () => {
    gone = true
    for (const id of [...waiting.keys()]) settle(id)?.reject(new ProcessGone())
  }
  line.on('disconnect', leave)
  // While Node waits for a connection to arrive at a process that has died, it emits no disconnect.
  line.on('exit', leave)

  line.on('message', (message) => {
    const { ask, about, answer, value, error } = message as Message
    if (answer !== undefined) {
      const found = settle(answer)
      if (error === undefined) found?.resolve(value as never)
      else found?.reject(new Error(error))
      return
    }
    const handler = typeof ask === 'string' && Object.hasOwn(handlers, ask) ? handlers[ask]! : undefined
    const { id } = message as Message
    const asked = async () => {
      if (handler === undefined)
        throw new Error(`the question ${ask} is unknown here; the other process has another version`)
      return handler(about)
    }
    asked().then(
      (result) => say({ answer: id, value: result }),
      (failure: unknown) => say({ answer: id, error: (failure as Error).message }),
    )
  })

  /** Sends a message. A broken pipe emits `disconnect`; there is nothing else to do about the message. */
  function say(message: object): void {
    if (!gone) line.send?.(message as Serializable, undefined, undefined, () => {})
  }

  return {
    ask(name, question, deadlineMs) {
      if (gone) return Promise.reject(new ProcessGone())
      const id = ++count
      return new Promise((resolve, reject) => {
        const timer = setTimeout(() => {
          waiting.delete(id)
          reject(new Error(`no answer to ${name} within ${deadlineMs} ms`))
        }, deadlineMs)
        waiting.set(id, { resolve, reject, timer })
        say({ ask: name, id, about: question })
      })
    },
  }
}

interface Message {
  readonly ask?: string
  readonly id?: number
  readonly about?: unknown
  readonly answer?: number
  readonly value?: unknown
  readonly error?: string
}
