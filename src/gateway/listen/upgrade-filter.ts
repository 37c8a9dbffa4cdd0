import { IncomingMessage } from 'node:http'

/**
 * A request whose Upgrade field counts only when it asks for WebSocket. With any other offer it is the plain request that
 * it also is: a server may ignore an offer (RFC 9110 §7.8). Java's HttpClient offers `h2c` on every first request, and Node
 * by itself checks only whether the server has an `upgrade` listener.
 */
export class GatewayRequest extends IncomingMessage {
  /** Set by Node's parser, and read by it once method and header are known. */
  set upgrade(asked: boolean | null) {
    ;(this as Asked)[ASKED] = asked === true
  }

  get upgrade(): boolean {
    if (!(this as Asked)[ASKED]) return false
    return this.method === 'CONNECT' || /websocket/i.test(this.headers.upgrade ?? '')
  }
}

// A private field would not do: the base constructor writes before private fields exist.
const ASKED = Symbol('asked for an upgrade')
interface Asked {
  [ASKED]?: boolean
}
