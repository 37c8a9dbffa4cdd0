import type { ForwardCheck } from '../config/snapshot/forward.js'
import type { ResponseHandler, Sender, Sent } from '../upstream/sender.js'
import type { AuthPass, AuthRequest, AuthVerdict } from './auth-verdict.js'

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

/** What a call has come to. */
export interface Answered {
  readonly verdict: AuthVerdict
  /** True if the response sets a cookie: no other request may get it. */
  readonly own: boolean
  /** Size of the verdict in memory, roughly, in bytes. */
  readonly size: number
}

/** How a call went for the service. unfit: it has answered, but not what the check needs, or it was never asked. */
export type CallOutcome = 'answered' | 'failed' | 'unfit'

/** One call to a service: a GET without a body. It ends within the timeout of its check, the wait for its turn included. */
export class AuthCall implements ResponseHandler {
  /** When it was its turn, in ms of `performance.now()`; 0: not yet. */
  begun = 0
  over = false
  #sent: Sent | undefined
  #resent = false
  #decided = false
  #status = 0
  #fields: readonly string[] = []
  #body: Buffer[] = []
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
    const { method, scheme, host, uri, forwardedFor, values } = this.request
    const { upstream, path, headers } = this.check
    const fields = [
      ...['Host', upstream.host, 'X-Forwarded-Method', method, 'X-Forwarded-Proto', scheme],
      ...['X-Forwarded-Host', host, 'X-Forwarded-Uri', uri, 'X-Forwarded-For', forwardedFor],
      ...['X-Original-URI', uri],
    ]
    for (const [i, name] of headers.entries()) if (values[i] !== undefined) fields.push(name, values[i])
    try {
      this.sender.dispatch({ method: 'GET', path, fields, body: null, length: -1, fresh }, this)
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
    this.#status = status
    this.#fields = fields
    if (status > 599) this.#fail('failed', `its status is ${status}`)
    else if (status < 300) this.#pass()
  }

  onData(piece: Buffer | string): boolean {
    this.#size += piece.length
    if (this.#size > MOST_BYTES) this.#cutShort()
    else if (!this.#decided) this.#body.push(Buffer.from(piece as Buffer))
    return true
  }

  onComplete(): void {
    if (this.over) return
    if (!this.#decided) this.#deny(Buffer.concat(this.#body))
    this.#end()
  }

  onError(error: NodeJS.ErrnoException): void {
    if (this.over) return
    const { code = error.message } = error
    // The service may close a connection while a request is on its way there. A GET can be sent again.
    if (this.#status === 0 && this.#sent !== undefined && !this.#resent && CLOSED.has(code)) {
      this.#resent = true
      this.#dispatch(true)
    } else if (this.#status > 0) this.#cutShort()
    // Neither what a client sends nor a reload is a fault of the service, which on_failure: allow would let in.
    else this.#fail(OWN_FAULTS.has(code) ? 'unfit' : 'failed', code)
  }

  #late = (): void => {
    if (this.over) return
    const { timeout } = this.check
    if (this.#status > 0) this.#cutShort()
    // A call that waited long for its turn gave the service too little time.
    else if (this.begun === 0 || performance.now() - this.begun < timeout / 2)
      this.#fail('unfit', `no turn within ${timeout} ms`)
    else this.#fail('failed', `no answer within ${timeout} ms`)
  }

  /** Ends without the rest of the body. The status is known, and it decides. */
  #cutShort(): void {
    if (this.over) return
    if (!this.#decided) this.#deny(undefined)
    this.#end()
    this.#abort()
  }

  #abort(): void {
    if (this.#sent === undefined) this.sender.withdraw(this)
    else this.#sent.abort()
  }

  #end(
    outcome: CallOutcome = this.#status >= 500 ? 'failed' : 'answered',
    why = `it answers ${this.#status}`,
  ): void {
    clearTimeout(this.#timer)
    this.over = true
    this.ended(outcome, why)
  }

  #fail(outcome: CallOutcome, why: string): void {
    this.#settle({ kind: outcome === 'unfit' ? 'busy' : 'failed', why }, false)
    this.#end(outcome, why)
    this.#abort()
  }

  #pass(): void {
    const { check } = this
    const { identity, upstreamHeaders } = check
    const fields = this.#chosen((name) => upstreamHeaders.includes(name))
    const cookies = this.#chosen((name) => name === 'set-cookie').filter((_, i) => i % 2 === 1)
    const pass: AuthPass = {
      kind: 'allowed',
      fields,
      cookies,
      consumer: identity && this.#idIn(identity.id),
      tier: identity?.tier && this.#idIn(identity.tier),
      tenant: identity?.tenant && this.#idIn(identity.tenant),
    }
    this.#settle(pass, cookies.length > 0, sizeOf(fields))
  }

  /** @param body undefined: it is too long, or has not come to its end */
  #deny(body: Buffer | undefined): void {
    const fields = this.#chosen(
      (name) => FOR_CLIENTS.has(name) && (body !== undefined || !name.startsWith('content-')),
    )
    const own = hasField(fields, 'set-cookie')
    // A browser may not remember where it was sent to log in, nor that it may not come in.
    if (!hasField(fields, 'cache-control')) fields.push('Cache-Control', 'no-store')
    const status = this.#status
    const denial = { kind: 'denied', status, fields, body: body ?? NOTHING } as const
    const verdict =
      status < 500 ? denial : ({ kind: 'failed', why: `it answers ${status}`, answer: denial } as const)
    this.#settle(verdict, own, sizeOf(fields) + denial.body.length)
  }

  #settle(verdict: AuthVerdict, own: boolean, size = 0): void {
    this.#decided = true
    this.#body = []
    this.decide({ verdict, own, size })
  }

  /** Returns a value that is there once, and is the name of something; undefined for any other. */
  #idIn(name: string): string | undefined {
    const [, value = '', another] = this.#chosen((one) => one === name)
    return value === '' || value.length > LONGEST_ID || another !== undefined ? undefined : value
  }

  /** Returns these fields, copied: a slice would keep the whole head in memory. */
  #chosen(isChosen: (lowerName: string) => boolean): string[] {
    const out: string[] = []
    for (let i = 0; i < this.#fields.length; i += 2) {
      const name = this.#fields[i]!
      if (isChosen(name.toLowerCase())) out.push(copied(name), copied(this.#fields[i + 1]!))
    }
    return out
  }
}

/** Codes of a connection that was closed by the other side. */
const CLOSED: ReadonlySet<string> = new Set(['UPSTREAM_CLOSED', 'UPSTREAM_RESET', 'ECONNRESET', 'EPIPE'])

/** Codes of calls that were never made. */
const OWN_FAULTS: ReadonlySet<string> = new Set(['UPSTREAM_UNSENDABLE', 'UPSTREAM_SHUT'])

const NOTHING = Buffer.alloc(0)

function copied(text: string): string {
  return Buffer.from(text, 'latin1').toString('latin1')
}

function hasField(fields: readonly string[], name: string): boolean {
  return fields.some((one, i) => i % 2 === 0 && one.toLowerCase() === name)
}

/** Bytes that an entry takes besides its texts. */
const OVERHEAD = 256

function sizeOf(fields: readonly string[]): number {
  return fields.reduce((sum, text) => sum + text.length + 24, OVERHEAD)
}
