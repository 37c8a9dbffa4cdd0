/** Builds headers of the PROXY protocol as a proxy in front sends them. The address that the client asked for is always the same. */

export function proxyV1(address: string, port: number): Buffer {
  return address.includes(':')
    ? Buffer.from(`PROXY TCP6 ${address} 2001:db8::53 ${port} 443\r\n`)
    : Buffer.from(`PROXY TCP4 ${address} 192.0.2.53 ${port} 443\r\n`)
}

/** @param command 1: PROXY, 0: LOCAL */
export function proxyV2(address: string, port: number, tlvs = Buffer.alloc(0), command = 1): Buffer {
  const [family, source, target] = address.includes(':')
    ? [0x21, ipv6(address), ipv6('2001:db8:0:0:0:0:0:53')]
    : [0x11, Buffer.from(address.split('.').map(Number)), Buffer.from([192, 0, 2, 53])]
  const ports = Buffer.alloc(4)
  ports.writeUInt16BE(port, 0)
  ports.writeUInt16BE(443, 2)
  const rest = Buffer.concat([source, target, ports, tlvs])
  const head = Buffer.from('\r\n\r\n\0\r\nQUIT\n\0\0\0\0', 'latin1')
  head[12] = 0x20 | command
  head[13] = family
  head.writeUInt16BE(rest.length, 14)
  return Buffer.concat([head, rest])
}

function ipv6(address: string): Buffer {
  const [before = '', after] = address.split('::')
  const left = before === '' ? [] : before.split(':')
  const right = after === undefined || after === '' ? [] : after.split(':')
  const words = [...left, ...new Array<string>(8 - left.length - right.length).fill('0'), ...right]
  const bytes = Buffer.alloc(16)
  for (const [i, word] of words.entries()) bytes.writeUInt16BE(Number.parseInt(word, 16), i * 2)
  return bytes
}
