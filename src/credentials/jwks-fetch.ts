import { Agent, request } from 'undici'

/** Timeout of a whole fetch, in ms: DNS, connection, TLS, headers and body. */
const PATIENCE_MS = 2_000
const MAX_BYTES = 64 * 1024

export type FetchResult = 'succeeded' | 'failed' | 'timeout' | 'too_large' | 'invalid'

/** Thrown when a fetch returns no text; the message says why. */
export class FetchFailure extends Error {
  constructor(
    readonly result: Exclude<FetchResult, 'succeeded'>,
    why: string,
  ) {
    super(why)
  }
}

export type Fetcher = ReturnType<typeof createFetcher>

/**
 * Creates a fetcher for one address. Each fetch opens its own connection, since there are only a few an hour. Redirects
 * are not followed: they would let another party choose where the keys are.
 */
export function createFetcher(url: string, patienceMs = PATIENCE_MS) {
  const agent = new Agent({
    connections: 1,
    pipelining: 1,
    keepAliveTimeout: 1,
    maxHeaderSize: 16 * 1024,
    maxResponseSize: MAX_BYTES,
    connect: { timeout: patienceMs },
    headersTimeout: patienceMs,
    bodyTimeout: patienceMs,
  })
  return {
    /**
     * Fetches the address once.
     *
     * @returns the body of a 200
     * @throws FetchFailure for any other outcome
     */
    async fetch(): Promise<string> {
      const late = AbortSignal.timeout(patienceMs)
      try {
        const { statusCode, body } = await request(url, {
          dispatcher: agent,
          signal: late,
          headers: { accept: 'application/jwk-set+json, application/json', 'accept-encoding': 'identity' },
        })
        if (statusCode !== 200) {
          body.on('error', () => {}).destroy()
          throw new FetchFailure('failed', `it answered ${statusCode}`)
        }
        return await body.text()
      } catch (error) {
        throw failureOf(error, late.aborted, patienceMs)
      }
    },
    close(): void {
      agent.destroy().catch(() => {})
    },
  }
}

function failureOf(error: unknown, late: boolean, patienceMs: number): FetchFailure {
  if (error instanceof FetchFailure) return error
  const { code, message } = error as NodeJS.ErrnoException
  if (code === 'UND_ERR_RES_EXCEEDED_MAX_SIZE')
    return new FetchFailure('too_large', `it sends more than ${MAX_BYTES} bytes`)
  if (late || code?.endsWith('_TIMEOUT'))
    return new FetchFailure('timeout', `it took more than ${patienceMs} ms`)
  return new FetchFailure('failed', code ?? message)
}
