import type { Dispatcher } from 'undici'

/** The connections to one upstream, whatever is spoken on them. */
export interface Sender {
  /**
   * What becomes of the request is told to the handler: `onConnect` before anything of it is sent, then the response, and at
   * last `onComplete` or `onError`, one of them and once.
   */
  dispatch(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean
  /** Whether what is not sent yet waits for a connection to be made. Undefined: it never waits for anything else. */
  readonly connecting?: boolean
  /** Takes nothing new; what is under way may go on. */
  readonly closed: boolean
  /** All is over. */
  readonly destroyed: boolean
  /** Graceful: resolves when all that is under way is through. */
  close(): Promise<void>
  destroy(): Promise<void>
}
