import { Agent, request } from 'undici'

/** Ms for the whole of a fetch: name, connection, TLS, header and body. */
const PATIENCE_MS = 2_000
const MAX_BYTES = 64 * 1024

export type FetchResult = 'succeeded' | 'failed' | 'timeout' | 'too_large' | 'invalid'

/** Why there is no text. */
export class FetchFailure extends Error {
  constructor(
    readonly result: Exclude<FetchResult, 'succeeded'>,
    why: string,
  ) {
    super(why)
  }
}

export interface Fetcher {
  /** @returns the body of a 200 @throws FetchFailure */
  fetch(): Promise<string>
  close(): void
}

/**
 * Fetches one address, on a connection of its own each time: it is asked a few times an hour. A redirect is not
 * followed, since it would let somebody else say where the keys are.
 */
export function createFetcher(url: string, patienceMs = PATIENCE_MS): Fetcher {
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
    async fetch() {
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
    close() {
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
