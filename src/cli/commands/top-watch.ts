import type { ReadStream, WriteStream } from 'node:tty'
import type { TopAnswer } from '../../admin/routes/top.js'
import { deferred } from '../../common/wait.js'
import type { Dimension, TopQuestion } from '../../telemetry/top/top.js'
import { queryOf } from '../api-path.js'
import type { Control } from '../client/admin-client.js'
import { type Key, openScreen } from '../print/screen.js'
import { painter } from '../print/terminal.js'
import { cutTo, topLines } from '../print/top-table.js'

export interface WatchOptions {
  readonly control: Control
  readonly what: TopQuestion
  readonly intervalMs: number
  readonly stdin: ReadStream
  readonly stdout: WriteStream
  readonly env: NodeJS.ProcessEnv
}

/** Maximum number of rows requested. */
const ROWS = 100
const BY: Readonly<Record<string, Dimension>> = { l: 'limited', n: 'near', c: 'cost', s: 'share' }
const HELP = 'l limited  n near  c cost  s share  ←→ service  ↑↓ scroll  q quit'

/**
 * Shows the live table until the user quits. Rejects if the first answer is a refusal. A gateway that goes away later
 * may come back.
 *
 * @returns the exit code
 */
export async function watchTop({ control, what, intervalMs, stdin, stdout, env }: WatchOptions) {
  const paint = painter(stdout, env)
  let asked = what
  const ask = ({ by, service, tier }: TopQuestion): Promise<TopAnswer> =>
    control.call('GET', `/top${queryOf({ by, n: String(ROWS), service, tier })}`)
  let told: TopAnswer | undefined = await ask(asked)
  const names = await control.services()
  let problem: string | undefined
  let scrolled = 0
  let timer: NodeJS.Timeout | undefined
  /** Number of the latest question. Answers to older ones are not shown. */
  let turn = 0
  const { promise: ended, resolve: end } = deferred<number>()

  const screen = openScreen(stdin, stdout, { onKey, onResize: draw, onEnd: end })

  function draw(): void {
    const { columns, rows: height } = screen
    const { head, rows, foot } = topLines({ ...asked, told, problem, columns }, paint)
    const room = Math.max(1, height - head.length - foot.length - 2)
    scrolled = Math.max(0, Math.min(scrolled, rows.length - room))
    const shown = rows.slice(scrolled, scrolled + room)
    const more = rows.length - scrolled - shown.length
    const last = more > 0 ? `${HELP}  (${more} more)` : HELP
    const filling = Array.from({ length: Math.max(0, room - shown.length) }, () => '')
    screen.draw([
      head[0]!,
      '',
      ...head.slice(1),
      ...shown,
      ...filling,
      ...foot,
      paint('dim', cutTo(last, columns)),
    ])
  }

  async function look(): Promise<void> {
    clearTimeout(timer)
    const mine = ++turn
    try {
      const answer = await ask(asked)
      if (mine !== turn) return
      told = answer
      problem = undefined
    } catch (error) {
      if (mine !== turn) return
      problem = (error as Error).message
    }
    draw()
    timer = setTimeout(() => void look(), intervalMs)
  }

  function turnTo(next: TopQuestion): void {
    asked = next
    told = undefined
    scrolled = 0
    draw()
    void look()
  }

  function onKey(key: Key): void {
    const by = BY[key]
    if (key === 'q' || key === 'Q' || key === '\u0003' || key === '\u0004') end(0)
    else if (by !== undefined) turnTo({ ...asked, by })
    else if (key === 'left' || key === 'right') {
      // `undefined`, for all services, is between the last and the first.
      const services = [undefined, ...names]
      const at = services.indexOf(asked.service) + (key === 'right' ? 1 : services.length - 1)
      turnTo({ ...asked, service: services[at % services.length] })
    } else {
      const page = Math.max(1, screen.rows - 6)
      const steps: Readonly<Record<string, number>> = {
        up: -1,
        down: 1,
        page_up: -page,
        page_down: page,
        home: -ROWS,
        end: ROWS,
      }
      const step = steps[key]
      if (step === undefined) return
      scrolled += step
      draw()
    }
  }

  try {
    draw()
    timer = setTimeout(() => void look(), intervalMs)
    return await ended
  } finally {
    turn++
    clearTimeout(timer)
    screen.close()
  }
}
