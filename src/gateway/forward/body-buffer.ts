import { give, type Shares, take } from '../../shares.js'

/** Longest body that is kept for a second attempt, in bytes. */
const BODY_BYTES = 65_536
/** Limit for all bodies that are kept at the same time, in bytes. */
const ALL_BYTES = 16_777_216
/** Overhead per piece, in bytes: many small pieces would cost more than their bytes. */
const PIECE_BYTES = 128

interface Whose {
  /** Read when the first piece is kept, not before. */
  readonly caller: string | undefined
}

export interface Replay {
  add(piece: Buffer): void
  /** Marks the end of the body. */
  end(): void
  /** Returns the whole body; undefined when part of it is missing, or it was too long. */
  whole(): Buffer | undefined
  /** Drops the body. */
  forget(): void
}

/** Keeps request bodies while they may have to be sent again. Past its limits it keeps nothing. */
export type ReplayMemory = ReturnType<typeof createReplayMemory>

export function createReplayMemory(
  shares: Pick<Shares, 'open'>,
  bodyBytes = BODY_BYTES,
  allBytes = ALL_BYTES,
) {
  const share = shares.open('replay_buffers', allBytes)
  return {
    /**
     * Keeps a body that begins to come in.
     *
     * @param whose the caller, who gets a quarter of the whole at most; left out, the body is exempt
     */
    keep(whose?: Whose): Replay {
      // Kept by reference: the bytes have been allocated anyway, and are usually dropped when the response's header arrives.
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
    /** Returns how many bytes are kept now. */
    size: (): number => share.held,
  }
}
