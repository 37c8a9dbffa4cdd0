import type { Socket } from 'node:net'

/**
 * Gives a likeness of a connection whose every byte is shown to somebody before Node's HTTP/2 reads it. Node reads a socket of the
 * system past all JavaScript; one that does not show that it is such, it reads as any other stream.
 *
 * @param look called with what has come, which it must not change
 */
export function tapped(socket: Socket, look: (chunk: Buffer) => void): Socket {
  const methods = new Map<string | symbol, unknown>()
  const on = (event: string, listener: (...args: unknown[]) => void): Socket => {
    if (event !== 'data') return socket.on(event, listener)
    return socket.on('data', (chunk: Buffer) => {
      look(chunk)
      listener(chunk)
    })
  }
  methods.set('on', on)
  return new Proxy(socket, {
    get(_, key) {
      const known = methods.get(key)
      if (known !== undefined) return known
      if (key === '_handle') return undefined
      const value = Reflect.get(socket, key, socket)
      if (typeof value !== 'function') return value
      const method = value.bind(socket)
      methods.set(key, method)
      return method
    },
    set: (_, key, value) => Reflect.set(socket, key, value, socket),
  })
}
