import { spawn } from 'node:child_process'
import type { CommandIo } from '../command.js'
import { complain } from '../print/terminal.js'

/** Notifies the service manager that started this process, if one did. */
export interface ServiceManager {
  /** Reports that the gateway serves, which ends a start under `Type=notify`. `systemctl status` shows `status`. */
  ready(status: string): void
  /** Reports a requested reload, from its begin to its end. */
  reloading<T>(reload: Promise<T>): Promise<T>
  /** Reports that the gateway drains, for up to `drainMs`, which may be longer than the unit plans for. */
  stopping(drainMs: number): void
}

const ALONE: ServiceManager = { ready() {}, reloading: (reload) => reload, stopping() {} }

/** Time that closing everything may take after the drain, in ms. */
const CLOSING_MS = 10_000

/**
 * Speaks sd_notify(3) to systemd if NOTIFY_SOCKET is set, and does nothing otherwise. With WATCHDOG_USEC, and unless
 * WATCHDOG_PID is another process, it also sends a keep-alive twice in that time. If the event loop hangs, the
 * keep-alive stops, and systemd restarts the process.
 *
 * Node has no Unix datagram sockets, so systemd's own systemd-notify sends each message, one after the other. It is a
 * separate process, hence `NotifyAccess=all` in the unit.
 */
export function openServiceManager(io: Pick<CommandIo, 'env' | 'stderr'>): ServiceManager {
  const { env } = io
  if (!env.NOTIFY_SOCKET) return ALONE
  let status = ''
  let failed = false
  let before: Promise<void> = Promise.resolve()

  function send(...assignments: readonly string[]): Promise<void> {
    before = before
      .then(() => notify(assignments, env))
      .catch((error: Error) => {
        // Reported once: the watchdog would repeat it again and again.
        if (!failed) complain(io, `tidegate: cannot notify systemd of ${assignments[0]}: ${error.message}`)
        failed = true
      })
    return before
  }

  const watchdog = watchdogMs(env)
  if (watchdog !== undefined) setInterval(() => void send('WATCHDOG=1'), watchdog / 2).unref()

  return {
    ready(text) {
      status = text
      void send('READY=1', `STATUS=${text}`)
    },
    async reloading(reload) {
      // In CLOCK_MONOTONIC, which hrtime uses on Linux: `Type=notify-reload` tells reloads apart by it.
      void send('RELOADING=1', `MONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`, 'STATUS=reloading')
      try {
        return await reload
      } finally {
        void send('READY=1', `STATUS=${status}`)
      }
    },
    stopping(drainMs) {
      void send('STOPPING=1', 'STATUS=draining', `EXTEND_TIMEOUT_USEC=${(drainMs + CLOSING_MS) * 1000}`)
    },
  }
}

function watchdogMs({ WATCHDOG_USEC, WATCHDOG_PID }: NodeJS.ProcessEnv): number | undefined {
  if (WATCHDOG_PID !== undefined && Number(WATCHDOG_PID) !== process.pid) return undefined
  const ms = Number(WATCHDOG_USEC) / 1000
  return ms >= 1 ? ms : undefined
}

function notify(assignments: readonly string[], env: NodeJS.ProcessEnv): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn('systemd-notify', assignments, { env, stdio: 'ignore' })
    child.once('error', (error: NodeJS.ErrnoException) =>
      reject(
        new Error(
          error.code === 'ENOENT'
            ? 'systemd-notify is not on the PATH; install it, or use Type=exec'
            : error.message,
        ),
      ),
    )
    child.once('exit', (code, signal) =>
      code === 0 ? resolve() : reject(new Error(`systemd-notify ended with ${signal ?? code}`)),
    )
  })
}
