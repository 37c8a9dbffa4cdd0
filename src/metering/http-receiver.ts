import { Pool } from 'undici'
import type { UsageEvent } from './events.js'

/** Where events go. `send` rejects when the receiver did not take them; they are then sent again, with the same ids. */
export interface Receiver {
  send(events: readonly UsageEvent[]): Promise<void>
  close(): Promise<void>
}

/** The receiver did not take the events. */
export class NotTaken extends Error {
  /**
   * @param after ms after which the receiver wants to be asked again, if it said so
   * @param tooLarge true if it takes no batch of this size
   */
  constructor(
    message: string,
    readonly after?: number,
    readonly tooLarge = false,
  ) {
    super(message)
  }
}

interface HttpSettings {
  readonly url: string
  readonly headers?: Readonly<Record<string, string>> | undefined
  readonly timeout: number
}

/** Opens a receiver of CloudEvents in the batched content mode of HTTP (JSON Batch Format). */
export function openHttpReceiver({ url, headers, timeout }: HttpSettings): Receiver {
  const { origin, pathname, search } = new URL(url)
  const pool = new Pool(origin, {
    connections: 1,
    pipelining: 1,
  })
  return {
    async send(events) {
      const {
        statusCode,
        headers: answered,
        body,
      } = await pool.request({
        method: 'POST',
        path: `${pathname}${search}`,
        headers: {
          // Without a charset: OpenMeter compares it as a whole.
          'content-type': 'application/cloudevents-batch+json',
          'user-agent': 'tidegate',
          ...headers,
        },
        body: JSON.stringify(events),
        // For all of it: a receiver may answer one byte at a time, without end.
        signal: AbortSignal.timeout(timeout),
      })
      await body.dump({ limit: 65_536 }).catch(() => {})
      if (statusCode >= 200 && statusCode < 300) return
      const seconds = Number(answered['retry-after'])
      const after = Number.isFinite(seconds) && seconds > 0 ? Math.min(seconds, 3600) * 1000 : undefined
      throw new NotTaken(`the receiver answers ${statusCode}`, after, statusCode === 413)
    },
    close: () => pool.destroy(),
  }
}
