import { buildConnector, Pool } from 'undici'

const connectWithin = buildConnector({ timeout: 2_000, allowH2: false })

/** What undici is told in place of ECONNRESET. */
export const RESET = 'UPSTREAM_RESET'

/**
 * undici takes a reset for the end of a body that only the end of the connection ends, since a Mac may say so after the
 * last byte. Then a backend that crashes mid body would look like success: under another name it counts as what it is.
 */
const connect: buildConnector.connector = (options, callback) =>
  connectWithin(options, (...[error, socket]) => {
    if (error !== null) {
      callback(error, null)
      return
    }
    socket.on('error', (failure: NodeJS.ErrnoException) => {
      if (failure.code === 'ECONNRESET') failure.code = RESET
    })
    callback(null, socket)
  })

/** @param origin `http://host:port` */
export function openPool(origin: string, connections: number): Pool {
  return new Pool(origin, {
    connections,
    // One request at a time on a connection: a stray byte after a response can never become another's answer.
    pipelining: 1,
    connect,
    keepAliveTimeout: 4_000,
    keepAliveMaxTimeout: 60_000,
    keepAliveTimeoutThreshold: 2_000,
    maxHeaderSize: 16_384,
    allowH2: false,
    // The exchange watches its own times (gateway/watchdog.ts): undici's run on a clock of half a second.
    headersTimeout: 0,
    bodyTimeout: 0,
  })
}
