import { BEFORE_HEADERS, type ForwardCheck } from '../config/snapshot/forward.js'
import type { ResponseHandler, Sender, Sent } from '../upstream/sender.js'
import { type AuthRequest, type AuthVerdict, MISSING } from './auth-verdict.js'

/** Most bytes of a response that are read. */
const MOST_BYTES = 65_536
const LONGEST_ID = 256

/** Headers of a response for the client. Others may tell it what is none of its business. */
const FOR_CLIENTS: ReadonlySet<string> = new Set([
  'www-authenticate',
  'location',
  'set-cookie',
  'content-type',
  'content-encoding',
  'content-language',
  'cache-control',
  'retry-after',
])
/** Codes of a connection that was closed by the other side. */
const CLOSED: ReadonlySet<string> = new Set(['UPSTREAM_CLOSED', 'UPSTREAM_RESET', 'ECONNRESET', 'EPIPE'])
/** Codes of calls that were never made. */
const OWN_FAULTS: ReadonlySet<string> = new Set(['UPSTREAM_UNSENDABLE', 'UPSTREAM_SHUT'])
/** Bytes that a verdict takes in memory besides its texts. */
const OVERHEAD = 256

/** Outcome of a call. */
export interface Answered {
  readonly verdict: AuthVerdict
  /** True if no other request may get the response: it sets a cookie, or leads back to what this one asked for. */
  readonly own: boolean
  /** Size of the verdict in memory, roughly, in bytes. */
  readonly size: number
}

/** How a call went for the service. unfit: it was never asked, or had too little time. */
export type CallOutcome = 'answered' | 'failed' | 'unfit'

/** One call to a service: a GET without a body. It ends within the timeout of its check, the wait for its turn included. */
export class AuthCall implements ResponseHandler {
  /** When it was its turn, in ms of `performance.now()`; 0: not yet. */
  begun = 0
  over = false
  #sent: Sent | undefined
  #resent = false
  #status = 0
  #fields: readonly string[] = []
  readonly #body: Buffer[] = []
  #size = 0
  readonly #timer: NodeJS.Timeout

  /**
   * @param decide called once, with the verdict
   * @param ended called once, when nothing is under way any more
   */
  constructor(
    private readonly check: ForwardCheck,
    private readonly request: AuthRequest,
    private readonly sender: Sender,
    private readonly decide: (answered: Answered) => void,
    private readonly ended: (outcome: CallOutcome, why: string) => void,
  ) {
    // A response that arrived while the event loop was blocked is read first: the delay was not the service's fault.
    this.#timer = setTimeout(() => setImmediate(this.#late), check.timeout)
  }

  begin(): void {
    this.begun = performance.now()
    this.#dispatch(false)
  }

  #dispatch(fresh: boolean): void {
    const { check, request } = this
    try {
      const fields = fieldsFor(check, request)
      this.sender.dispatch({ method: 'GET', path: check.path, fields, body: null, length: -1, fresh }, this)
    } catch (error) {
      this.onError(error as Error)
    }
  }

  // ResponseHandler

  onConnect(sent: Sent): void {
    if (this.over) throw new Error('its time was over before it had a connection')
    this.#sent = sent
  }

  onHeaders(status: number, fields: string[]): void {
    if (status < 200 || this.over) return
    if (status > 599) {
      this.#stop('failed', `its status is ${status}`)
      return
    }
    this.#status = status
    this.#fields = fields
    if (status < 300) this.decide(passOf(this.check, fields))
  }

  onData(piece: Buffer | string): boolean {
    this.#size += piece.length
    if (this.#size > MOST_BYTES) this.#stop()
    else this.#body.push(Buffer.from(piece as Buffer))
    return true
  }

  onComplete(): void {
    this.#end(Buffer.concat(this.#body))
  }

  onError(error: NodeJS.ErrnoException): void {
    if (this.over) return
    const { code = error.message } = error
    // The service may close a connection while a request is on its way there. A GET can be sent again.
    if (this.#status === 0 && this.#sent !== undefined && !this.#resent && CLOSED.has(code)) {
      this.#resent = true
      this.#dispatch(true)
    } // Neither what a client sends nor a reload is a fault of the service, which on_failure: allow would let in.
    else this.#stop(OWN_FAULTS.has(code) ? 'unfit' : 'failed', code)
  }

  #late = (): void => {
    const { timeout } = this.check
    // A call that waited long for its turn gave the service too little time.
    if (this.begun === 0 || performance.now() - this.begun < timeout / 2)
      this.#stop('unfit', `no turn within ${timeout} ms`)
    else this.#stop('failed', `no answer within ${timeout} ms`)
  }

  /** Ends the call without the rest of the response. If the status is known, it decides. */
  #stop(outcome?: CallOutcome, why?: string): void {
    if (this.over) return
    this.#end(undefined, outcome, why)
    if (this.#sent === undefined) this.sender.withdraw(this)
    else this.#sent.abort()
  }

  /** @param body undefined: it is too long, or has not come to its end */
  #end(body: Buffer | undefined, outcome: CallOutcome = 'failed', why = ''): void {
    if (this.over) return
    this.over = true
    clearTimeout(this.#timer)
    const status = this.#status
    if (status === 0) this.decide(without(outcome === 'unfit' ? 'busy' : 'failed', why))
    else if (status >= 300) this.decide(denialOf(this.check, status, this.#fields, body))
    if (status === 0) this.ended(outcome, why)
    else this.ended(status >= 500 ? 'failed' : 'answered', `it answers ${status}`)
  }
}

export function without(kind: 'failed' | 'busy', why: string): Answered {
  return { verdict: { kind, why }, own: false, size: 0 }
}

function fieldsFor({ upstream, headers }: ForwardCheck, { parts }: AuthRequest): string[] {
  const [method, host, uri, , scheme, forwardedFor] = parts as [
    string,
    string,
    string,
    string,
    string,
    string,
  ]
  const fields = [
    ...['Host', upstream.host, 'X-Forwarded-Method', method, 'X-Forwarded-Proto', scheme],
    ...['X-Forwarded-Host', host, 'X-Forwarded-Uri', uri, 'X-Forwarded-For', forwardedFor],
    ...['X-Original-URI', uri],
  ]
  for (const [i, name] of headers.entries()) {
    const value = parts[BEFORE_HEADERS + i]!
    if (value !== MISSING) fields.push(name, value)
  }
  return fields
}

function passOf({ identity, upstreamHeaders }: ForwardCheck, all: readonly string[]): Answered {
  const fields = chosen(all, (name) => upstreamHeaders.includes(name))
  const cookies = valuesOf(all, 'set-cookie')
  /** Returns a value that is there once, and is the name of something. */
  const named = (name: string | undefined): string | undefined => {
    const [value = '', another] = valuesOf(all, name)
    return value === '' || value.length > LONGEST_ID || another !== undefined ? undefined : value
  }
  const consumer = named(identity?.id)
  const verdict = { fields, cookies, consumer, tier: named(identity?.tier), tenant: named(identity?.tenant) }
  return { verdict: { kind: 'allowed', ...verdict }, own: cookies.length > 0, size: sizeOf(fields) }
}

function denialOf(
  { by }: ForwardCheck,
  status: number,
  all: readonly string[],
  body: Buffer | undefined,
): Answered {
  const fields = chosen(
    all,
    (name) => FOR_CLIENTS.has(name) && (body !== undefined || !name.startsWith('content-')),
  )
  // A browser may not remember where it was sent to log in, nor that it may not come in.
  if (valuesOf(all, 'cache-control').length === 0) fields.push('Cache-Control', 'no-store')
  const denial = { kind: 'denied', status, fields, body: body ?? Buffer.alloc(0) } as const
  return {
    verdict: status < 500 ? denial : { kind: 'failed', why: `it answers ${status}`, answer: denial },
    // A redirect to a login leads back to what this client asked for. With fewer parts, another one could get it.
    own: [...valuesOf(all, 'set-cookie'), ...(by === undefined ? [] : valuesOf(all, 'location'))].length > 0,
    size: sizeOf(fields) + denial.body.length,
  }
}

/** Returns some of the fields, copied: a slice would keep the whole head in memory. */
function chosen(all: readonly string[], isChosen: (lowerName: string) => boolean): string[] {
  return all
    .filter((_, i) => isChosen(all[i - (i % 2)]!.toLowerCase()))
    .map((text) => Buffer.from(text, 'latin1').toString('latin1'))
}

function valuesOf(all: readonly string[], name: string | undefined): string[] {
  return chosen(all, (one) => one === name).filter((_, i) => i % 2 === 1)
}

function sizeOf(fields: readonly string[]): number {
  return fields.reduce((sum, text) => sum + text.length + 24, OVERHEAD)
}
