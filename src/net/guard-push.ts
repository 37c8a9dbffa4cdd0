import type { Socket } from 'node:net'

/**
 * Lets a function see what a socket reads before anybody else does. Every reader of a socket, with TLS or without, pushes
 * here what it has read. An exception of the function, or of those that it passes bytes to, ends this connection only.
 *
 * @param read gets each chunk. Returns the result of `Readable.push`
 * @param onBroken called once with what was wrong
 * @returns passes bytes on
 */
export function guardPush(
  socket: Socket,
  read: (chunk: Buffer) => boolean,
  onBroken: (what: string) => void,
): (bytes: Buffer) => boolean {
  const { push } = socket
  let broken = false
  socket.push = (chunk: Buffer | null) => {
    if (broken) return false
    if (chunk === null) return push.call(socket, null)
    try {
      return read(chunk)
    } catch (error) {
      broken = true
      onBroken((error as Error).message)
      socket.destroy(error as Error)
      return false
    }
  }
  return (bytes) => push.call(socket, bytes)
}
