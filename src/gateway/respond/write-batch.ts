import type { ServerResponse } from 'node:http'
import { broken } from '../exchange/faults.js'
import { PlainResponse } from './plain-response.js'

/**
 * Whole responses wait here for the end of the event loop's turn and are written one after the other. A write that wakes
 * the other side costs several times as much as one to a side that is awake, and by the second write it is awake.
 */
let waiting: ServerResponse[] = []
let pieces: (string | Buffer)[] = []
/** The two lists of the previous turn, empty, for reuse. */
let spare: ServerResponse[] = []
let sparePieces: (string | Buffer)[] = []
let scheduled = false

/** Sends the body and ends the response, whose head is set, before the event loop waits for anything. */
export function sendThisTurn(res: ServerResponse, body: string | Buffer): void {
  waiting.push(res)
  pieces.push(body)
  if (scheduled) return
  scheduled = true
  setImmediate(turnEnds)
}

function turnEnds(): void {
  scheduled = false
  sendWaiting()
}

/** Sends what waits now, for a caller that needs it out. */
export function sendWaiting(): void {
  if (waiting.length === 0) return
  const responses = waiting
  const bodies = pieces
  waiting = spare
  pieces = sparePieces
  for (let i = 0; i < responses.length; i++) {
    const res = responses[i]!
    try {
      send(res, bodies[i]!)
    } catch (error) {
      broken(res, error)
    }
  }
  responses.length = 0
  bodies.length = 0
  spare = responses
  sparePieces = bodies
}

/** Returns whether the system has taken all of the response. Since Node 24, `writableFinished` says so only a tick later. */
export function isOut(res: ServerResponse): boolean {
  return res.writableEnded && res.writableLength === 0
}

/**
 * Sends a response in one write of one string. Node's `end(body)` makes three pieces of it, and gathering those costs more
 * than anything else about a small response.
 */
function send(res: ServerResponse, body: string | Buffer): void {
  const other: object = res
  if (other instanceof PlainResponse) {
    other.endNow(body)
    return
  }
  const { socket } = res
  // The client has gone meanwhile, and its exchange has been told.
  if (res.destroyed || socket === null) return
  res.write(typeof body === 'string' ? body : body.toString('latin1'), 'latin1')
  // `write` has corked the socket until the next tick, to join further pieces. None comes here.
  socket.uncork()
  res.end()
}
