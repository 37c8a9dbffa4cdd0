import { give, type Shares, take } from '../../shares.js'

/** Longest body that is kept for a second try. */
const BODY_BYTES = 65_536
/** All that is kept at the same time. */
const ALL_BYTES = 16_777_216
/** What a piece costs besides its bytes: many small ones would be more than they look. */
const PIECE_BYTES = 128

/** Bodies that are kept while it may turn out that they have to be sent again. Past its bounds nothing is kept. */
export interface ReplayMemory {
  /**
   * Keeps a body that begins to come in.
   *
   * @param whose has a quarter of the whole at most; left out, it is exempt
   */
  keep(whose?: Whose): Replay
  /** Bytes that are kept now. */
  size(): number
}

interface Whose {
  /** Asked for once there is something to keep. */
  readonly caller: string | undefined
}

export interface Replay {
  add(piece: Buffer): void
  /** The body has come to its end. */
  end(): void
  /** The whole of it; undefined when it has not all come, or was too long. */
  whole(): Buffer | undefined
  /** It is not needed any more. */
  forget(): void
}

export function createReplayMemory(
  shares: Pick<Shares, 'open'>,
  bodyBytes = BODY_BYTES,
  allBytes = ALL_BYTES,
): ReplayMemory {
  const share = shares.open('replay_buffers', allBytes)
  return {
    keep(whose) {
      // By reference: the bytes have been allocated anyway, and usually go with the response's header.
      let pieces: Buffer[] | undefined = []
      let size = 0
      let ended = false
      let caller: string | undefined
      const forget = (): void => {
        if (pieces === undefined) return
        pieces = undefined
        if (size > 0) give(share, caller, size)
      }
      return {
        add(piece) {
          if (pieces === undefined) return
          const more = piece.length + PIECE_BYTES
          if (size === 0) caller = whose?.caller
          if (size + more > bodyBytes || take(share, caller, more) !== undefined) {
            forget()
            return
          }
          pieces.push(piece)
          size += more
        },
        end() {
          ended = true
        },
        whole: () => (ended && pieces !== undefined ? Buffer.concat(pieces) : undefined),
        forget,
      }
    },
    size: () => share.held,
  }
}
