import { isIPv4, isIPv6, type Socket, SocketAddress } from 'node:net'

/**
 * The PROXY header, which a proxy sends ahead of a connection to say which client it serves (haproxy.org,
 * proxy-protocol.txt).
 */
export interface ProxyHeader {
  /** Bytes that the header takes; the client's own follow. */
  readonly length: number
  /** Undefined: the proxy speaks for itself (LOCAL), and the connection's own address holds. */
  readonly client: { readonly address: string; readonly port: number } | undefined
}

/** A client whose address the proxy does not know. Nobody has this address, so nothing that the client says is believed. */
const UNKNOWN = { address: '0.0.0.0', port: 0 }

const V1_START = Buffer.from('PROXY ')
/** Includes the CRLF. */
const V1_LONGEST = 107
const V2_START = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1')
const V2_FIXED = 16
/** Without the fixed part. Addresses, and what load balancers add to them, stay below 1 KiB. */
const V2_LONGEST = 4096

/**
 * Parses the header at the beginning of the bytes so far.
 *
 * @returns undefined while more bytes are needed; a text that says why there is no valid header
 */
export function parseProxyHeader(bytes: Buffer): ProxyHeader | string | undefined {
  if (startsLike(bytes, V1_START)) return bytes.length < V1_START.length ? undefined : parseV1(bytes)
  if (startsLike(bytes, V2_START)) return bytes.length < V2_FIXED ? undefined : parseV2(bytes)
  return 'no header of the PROXY protocol'
}

function startsLike(bytes: Buffer, start: Buffer): boolean {
  const length = Math.min(bytes.length, start.length)
  return bytes.compare(start, 0, length, 0, length) === 0
}

const V1 = /^PROXY TCP([46]) ([0-9a-fA-F.:]{2,45}) ([0-9a-fA-F.:]{2,45}) ([0-9]{1,5}) ([0-9]{1,5})$/

function parseV1(bytes: Buffer): ProxyHeader | string | undefined {
  const text = bytes.toString('latin1', 0, Math.min(bytes.length, V1_LONGEST))
  const end = text.indexOf('\r\n')
  if (end < 0) return bytes.length < V1_LONGEST ? undefined : 'a version 1 header without an end'
  const length = end + 2
  const line = text.slice(0, end)
  if (line === 'PROXY UNKNOWN' || line.startsWith('PROXY UNKNOWN ')) return { length, client: UNKNOWN }
  const [, family, source = '', target = '', sourcePort, targetPort] = V1.exec(line) ?? []
  const isAddress = family === '4' ? isIPv4 : isIPv6
  const port = Number(sourcePort)
  if (!isAddress(source) || !isAddress(target) || port > 65_535 || Number(targetPort) > 65_535) {
    return 'a malformed version 1 header'
  }
  return { length, client: { address: family === '4' ? source : shortest(source), port } }
}

function parseV2(bytes: Buffer): ProxyHeader | string | undefined {
  const version = bytes[12]! >> 4
  const command = bytes[12]! & 0x0f
  const rest = bytes.readUInt16BE(14)
  if (version !== 2 || command > 1) return 'a version 2 header of an unknown kind'
  if (rest > V2_LONGEST) return `a version 2 header of more than ${V2_LONGEST} bytes`
  const length = V2_FIXED + rest
  if (bytes.length < length) return undefined
  if (command === 0) return { length, client: undefined }
  const family = bytes[13]! >> 4
  // The TLVs that follow the addresses are skipped together with them.
  if (family === 1) {
    if (rest < 12) return 'a version 2 header too short for its addresses'
    return { length, client: { address: bytes.subarray(16, 20).join('.'), port: bytes.readUInt16BE(24) } }
  }
  if (family === 2) {
    if (rest < 36) return 'a version 2 header too short for its addresses'
    const words = Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(16 + i * 2).toString(16))
    return { length, client: { address: shortest(words.join(':')), port: bytes.readUInt16BE(48) } }
  }
  return { length, client: UNKNOWN }
}

/** Returns an IPv6 address in the spelling that sockets use. */
function shortest(address: string): string {
  return new SocketAddress({ address, family: 'ipv6' }).address
}

/**
 * Waits for the header on a fresh connection and takes it off. The bytes behind it are left for the next reader.
 *
 * @param done called once with the header, or with the reason why there is none
 */
export function readProxyHeader(
  socket: Socket,
  patienceMs: number,
  done: (outcome: ProxyHeader | string) => void,
): void {
  let held: Buffer | undefined
  const finish = (outcome: ProxyHeader | string): void => {
    clearTimeout(timer)
    socket.off('readable', read)
    socket.off('end', left)
    socket.off('close', left)
    done(outcome)
  }
  const read = (): void => {
    const chunk: Buffer | null = socket.read()
    if (chunk === null) return
    held = held === undefined ? chunk : Buffer.concat([held, chunk])
    const header = parseProxyHeader(held)
    if (header === undefined) return
    if (typeof header === 'object' && held.length > header.length)
      socket.unshift(held.subarray(header.length))
    finish(header)
  }
  const left = (): void => finish('the connection ended before its header')
  const timer = setTimeout(() => finish(`no header within ${patienceMs} ms`), patienceMs).unref()
  socket.on('readable', read)
  socket.on('end', left)
  socket.on('close', left)
}

/** Makes the socket report the client's address as its own. */
export function assumeAddress(socket: Socket, { client }: Pick<ProxyHeader, 'client'>): void {
  if (client === undefined) return
  Object.defineProperty(socket, 'remoteAddress', { value: client.address })
  Object.defineProperty(socket, 'remotePort', { value: client.port })
}
