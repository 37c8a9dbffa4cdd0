import type { Socket } from 'node:net'
import { Flag, FrameType, frameHead } from './frames.js'

/** Bodies from this size on are not copied into the text of the other frames, in bytes. */
const COPIED_BYTES = 8_192

/** Connections with something to send at the end of the event loop's turn. */
let due: Output[] = []

function sendDue(): void {
  const outputs = due
  due = []
  for (const output of outputs) output.flush()
}

/**
 * Gathers the frames for one connection and writes them at the end of the event loop's turn, as one string where possible.
 */
export class Output {
  /** Bytes of all frames so far. */
  written = 0
  /** How many of these the system has taken. */
  taken = 0
  /** Frames of responses so far. */
  answers = 0
  readonly #socket: Socket
  readonly #onTaken: () => void
  #text = ''
  /** Frames that go out before the text. */
  #pieces: (string | Buffer)[] = []
  #scheduled = false

  /** @param onTaken called when the system has taken more */
  constructor(socket: Socket, onTaken: () => void) {
    this.#socket = socket
    this.#onTaken = onTaken
  }

  /** Returns how many bytes wait until the client takes them. */
  get backlog(): number {
    return this.written - this.taken
  }

  /** @param payload Latin-1 */
  frame(type: FrameType, flags: number, stream: number, payload: string): void {
    if (type === FrameType.Headers) this.answers++
    this.#text += frameHead(payload.length, type, flags, stream) + payload
    this.#add(9 + payload.length)
  }

  data(stream: number, last: boolean, piece: string | Buffer): void {
    this.answers++
    this.#text += frameHead(piece.length, FrameType.Data, last ? Flag.EndStream : 0, stream)
    if (typeof piece === 'string') this.#text += piece
    else if (piece.length < COPIED_BYTES) this.#text += piece.toString('latin1')
    else {
      this.#pieces.push(this.#text, piece)
      this.#text = ''
    }
    this.#add(9 + piece.length)
  }

  #add(bytes: number): void {
    this.written += bytes
    if (this.#scheduled) return
    this.#scheduled = true
    if (due.length === 0) setImmediate(sendDue)
    due.push(this)
  }

  flush(): void {
    this.#scheduled = false
    const socket = this.#socket
    const text = this.#text
    const pieces = this.#pieces
    this.#text = ''
    if (!socket.writable || (text === '' && pieces.length === 0)) return
    const mark = this.written
    const done = (error?: Error | null): void => {
      if (error) return
      this.taken = mark
      this.#onTaken()
    }
    if (pieces.length === 0) {
      socket.write(text, 'latin1', done)
      return
    }
    this.#pieces = []
    socket.cork()
    for (const piece of pieces) {
      if (typeof piece === 'string') socket.write(piece, 'latin1')
      else socket.write(piece)
    }
    socket.write(text, 'latin1', done)
    socket.uncork()
  }
}
