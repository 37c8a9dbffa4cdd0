import type { ReadStream, WriteStream } from 'node:tty'

/** Terminal in full-screen mode, for a display that changes. */
export type Screen = ReturnType<typeof openScreen>

/** Key as its character, or one of the names below. */
export type Key = string

const KEYS: Readonly<Record<string, Key>> = {
  '[A': 'up',
  '[B': 'down',
  '[C': 'right',
  '[D': 'left',
  OA: 'up',
  OB: 'down',
  OC: 'right',
  OD: 'left',
  '[5~': 'page_up',
  '[6~': 'page_down',
  '[H': 'home',
  '[F': 'end',
}

/** Switches to the alternate screen, without a cursor, and back. The earlier content returns with the main screen. */
const ENTER = '\u001b[?1049h\u001b[?25l'
const LEAVE = '\u001b[?25h\u001b[?1049l'
/** Updates the screen at once if the terminal can (mode 2026), so that no half frame is visible. */
const BEGIN = '\u001b[?2026h\u001b[H'
const END = '\u001b[J\u001b[?2026l'
const END_OF_LINE = '\u001b[K'

/**
 * Opens the terminal. It is restored when the process ends, for whatever reason: an exception, SIGTERM, SIGHUP. Ctrl-Z
 * suspends the process as usual.
 */
export function openScreen(
  stdin: ReadStream,
  stdout: WriteStream,
  {
    onKey,
    onResize,
    onEnd,
  }: { onKey: (key: Key) => void; onResize: () => void; onEnd: (code: number) => void },
) {
  let open = false

  function enter(): void {
    if (open) return
    open = true
    stdin.setRawMode(true)
    stdin.resume()
    stdout.write(ENTER)
  }
  function leave(): void {
    if (!open) return
    open = false
    stdout.write(LEAVE)
    // A terminal that has gone away has no mode to restore.
    if (!stdin.destroyed) stdin.setRawMode(false)
    stdin.pause()
  }

  function onData(data: Buffer): void {
    for (const key of keysOf(data.toString('utf8'))) {
      if (key === '\u001a') {
        leave()
        process.kill(process.pid, 'SIGTSTP')
      } else onKey(key)
    }
  }
  const onContinue = () => {
    enter()
    onResize()
  }
  const signals = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const
  const handlers = Object.entries(signals).map(([signal, code]) => [signal, () => onEnd(code)] as const)
  const onGone = () => onEnd(signals.SIGHUP)

  stdin.on('data', onData)
  stdin.on('error', onGone)
  stdin.on('end', onGone)
  stdout.on('error', onGone)
  stdout.on('resize', onResize)
  process.on('SIGCONT', onContinue)
  process.on('exit', leave)
  for (const [signal, handler] of handlers) process.on(signal, handler)
  enter()

  return {
    get columns(): number {
      return stdout.columns || 80
    },
    get rows(): number {
      return stdout.rows || 24
    },
    /** Replaces the lines shown. Lines without room at the bottom are left out. */
    draw(lines: readonly string[]): void {
      if (!open) return
      const shown = lines.slice(0, stdout.rows || 24).map((line) => line + END_OF_LINE)
      stdout.write(BEGIN + shown.join('\r\n') + END)
    },
    /** Restores the terminal. Idempotent. */
    close(): void {
      leave()
      stdin.off('data', onData)
      stdout.off('resize', onResize)
      process.off('SIGCONT', onContinue)
      for (const [signal, handler] of handlers) process.off(signal, handler)
    },
  }
}

/** Splits input into keys. Unknown escape sequences are dropped. */
export function keysOf(text: string): Key[] {
  const keys: Key[] = []
  for (const [found, sequence] of text.matchAll(/\u001b(\[[0-9;]*[A-Za-z~]|O[A-Z])|[\s\S]/gu)) {
    if (sequence === undefined) keys.push(found)
    else if (KEYS[sequence] !== undefined) keys.push(KEYS[sequence])
  }
  return keys
}
