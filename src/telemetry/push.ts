import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import { Agent } from 'undici'
import type { View } from './cells.js'
import { createDeltas } from './deltas.js'
import { encodeMetrics } from './otlp-metrics.js'

/** Where and how metrics are pushed: OTLP over HTTP, as protobuf. */
export interface OtlpOptions {
  /** The whole URL. */
  readonly url: string
  /** Between pushes, ms. */
  readonly intervalMs: number
  /** No push waits longer, ms. */
  readonly timeoutMs: number
  /** May hold secrets: never logged. */
  readonly headers: Readonly<Record<string, string>>
  readonly compression: 'gzip' | 'none'
  readonly temporality: 'cumulative' | 'delta'
  readonly histograms: 'classic' | 'exponential'
  /** Attributes of the resource beside `service.name` and `service.instance.id`. */
  readonly resource: Readonly<Record<string, string>>
  readonly tls?: { readonly ca?: Buffer; readonly cert?: Buffer; readonly key?: Buffer } | undefined
}

export interface Push {
  /** Pushes what is left and stops; waits two seconds for a slow collector at most. */
  close(): Promise<void>
}

const LAST_PUSH_MS = 2000
/** Bytes of an answer that are read: it says what was rejected, in a few words. */
const MOST_OF_ANSWER = 64 * 1024
/** No collector is obeyed that asks for a longer pause, ms. */
const LONGEST_PAUSE_MS = 300_000

const zip = promisify(gzip)

/**
 * Pushes at intervals. One push is under way at most and what was counted is kept nowhere but in the cells, so a collector
 * that is slow or away costs no memory; one that is not pushed is in the totals of the next.
 *
 * @param read the figures, brought up to date
 */
export function startPush(options: {
  readonly otlp: OtlpOptions
  readonly resource: Readonly<Record<string, string>>
  readonly read: () => Promise<View[]>
  readonly onFailed: (error: Error) => void
}): Push {
  const { otlp, resource, read, onFailed } = options
  const dispatcher = new Agent({ connect: { ...otlp.tls }, connections: 1, pipelining: 1 })
  const deltas = otlp.temporality === 'delta' ? createDeltas() : undefined
  const url = new URL(otlp.url)
  let from = Date.now()
  let pausedUntil = 0
  let underWay: Promise<void> | undefined

  async function send(timeoutMs: number): Promise<void> {
    const views = await read()
    const to = Date.now()
    const request = {
      views: deltas?.since(views) ?? views,
      resource: { ...otlp.resource, ...resource },
      temporality: otlp.temporality,
      exponential: otlp.histograms === 'exponential',
      from,
      to,
    }
    const encoded = await encodeMetrics(request)
    const body = otlp.compression === 'gzip' ? await zip(encoded) : encoded
    // Of the whole exchange: a collector that sends a byte now and then holds nobody up.
    const signal = AbortSignal.timeout(timeoutMs)
    const {
      statusCode,
      headers,
      body: answer,
    } = await dispatcher.request({
      origin: url.origin,
      path: url.pathname + url.search,
      method: 'POST',
      headers: {
        ...(url.username === '' ? {} : { authorization: basicOf(url) }),
        ...otlp.headers,
        'content-type': 'application/x-protobuf',
        'user-agent': 'tidegate',
        ...(otlp.compression === 'gzip' && { 'content-encoding': 'gzip' }),
      },
      body,
      signal,
    })
    const text = await readAnswer(answer)
    if (statusCode === 429 || statusCode === 503) pausedUntil = Date.now() + pauseOf(headers['retry-after'])
    if (statusCode > 299) throw new Error(`the collector answers ${statusCode}`)
    const rejected = rejectedPoints(text)
    if (rejected > 0) throw new Error(`the collector has rejected ${rejected} of the points`)
    deltas?.arrived()
    if (deltas !== undefined) from = to
  }

  function push(timeoutMs: number): Promise<void> {
    underWay ??= send(timeoutMs)
      .catch((error: unknown) => onFailed(error as Error))
      .finally(() => {
        underWay = undefined
      })
    return underWay
  }

  const timer = setInterval(() => {
    if (Date.now() >= pausedUntil) void push(otlp.timeoutMs)
  }, otlp.intervalMs)
  timer.unref()

  return {
    async close() {
      clearInterval(timer)
      const last = async () => {
        await underWay
        await push(LAST_PUSH_MS)
      }
      let late: NodeJS.Timeout | undefined
      await Promise.race([
        last(),
        new Promise((resolve) => {
          late = setTimeout(resolve, LAST_PUSH_MS)
        }),
      ])
      clearTimeout(late)
      await dispatcher.destroy()
    },
  }
}

function basicOf({ username, password }: URL): string {
  const pair = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`
  return `Basic ${Buffer.from(pair).toString('base64')}`
}

async function readAnswer(answer: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of answer) {
    size += chunk.length
    if (size > MOST_OF_ANSWER) throw new Error('the collector answers at too great a length')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

/** Of an `ExportMetricsServiceResponse`: `partial_success.rejected_data_points`. */
function rejectedPoints(answer: Buffer): number {
  let at = 0
  const varint = () => {
    let value = 0
    for (let unit = 1; at < answer.length; unit *= 0x80) {
      const byte = answer[at++]!
      value += (byte & 0x7f) * unit
      if (byte < 0x80) break
    }
    return value
  }
  if (varint() !== 0x0a || varint() === 0 || varint() !== 0x08) return 0
  return varint()
}

/** `Retry-After` in seconds or as a date, to ms. */
function pauseOf(value: string | string[] | undefined): number {
  if (typeof value !== 'string') return 0
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now()
  return ms > 0 ? Math.min(ms, LONGEST_PAUSE_MS) : 0
}
