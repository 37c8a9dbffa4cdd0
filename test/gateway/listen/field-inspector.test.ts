import { once } from 'node:events'
import { connect, createServer } from 'node:http2'
import { type AddressInfo, connect as dial, createServer as listen } from 'node:net'
import fc from 'fast-check'
import t from 'tap'
import { FieldInspector } from '../../../src/gateway/listen/field-inspector.js'
import { createHuffmanTree } from '../../../src/gateway/listen/huffman.js'

/** The code of HPACK, and what is made of fields that another encoder writes. */

t.test('the tree has every symbol once, and no dead end', async (t) => {
  const tree = createHuffmanTree()
  const symbols = [...tree].filter((to) => to < 0).map((to) => -to - 1)
  t.same(
    symbols.toSorted((a, b) => a - b),
    Array.from({ length: 257 }, (_, symbol) => symbol),
  )
  t.equal([...tree].filter((to) => to === 0).length, 0)
})

t.test("what Node's own client sends is never held for illegal, however it is cut", async (t) => {
  // What a client writes on the wire, past a relay that shows it.
  const server = createServer()
  server.on('stream', (stream) => {
    stream.respond({ ':status': 200 })
    stream.end()
    stream.resume()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  let cut = 1
  const illegal: number[] = []
  const relay = listen((socket) => {
    const inspector = new FieldInspector((stream) => void illegal.push(stream))
    const onward = dial((server.address() as AddressInfo).port, '127.0.0.1')
    socket.on('data', (chunk: Buffer) => {
      for (let at = 0; at < chunk.length; at += cut) inspector.look(chunk.subarray(at, at + cut))
      onward.write(chunk)
    })
    onward.on('data', (chunk) => socket.write(chunk))
    for (const one of [socket, onward]) one.on('error', () => {})
    socket.on('close', () => onward.destroy())
  })
  relay.listen(0, '127.0.0.1')
  await once(relay, 'listening')
  const session = connect(`http://127.0.0.1:${(relay.address() as AddressInfo).port}`)
  t.teardown(() => {
    session.destroy()
    relay.close()
    server.close()
  })
  const name = fc.stringMatching(/^x-[a-z0-9!#$%&'*+.^_`|~-]{1,30}$/)
  const value = fc.stringMatching(/^[!-~\x80-\xff]([\t !-~\x80-\xff]{0,200}[!-~\x80-\xff])?$/)
  let asked = 0
  await fc.assert(
    fc.asyncProperty(
      fc.dictionary(name, value, { maxKeys: 8 }),
      fc.integer({ min: 1, max: 40 }),
      async (fields, size) => {
        cut = size
        const stream = session.request({ ':path': '/', ...fields })
        stream.resume()
        await once(stream, 'close')
        asked++
        return illegal.length === 0
      },
    ),
    { numRuns: 300 },
  )
  t.ok(asked >= 300)
})

t.test('whatever comes, it is looked at without a fault', async () => {
  const type = fc.constantFrom(0, 1, 1, 1, 9, 9)
  const flags = fc.constantFrom(0, 4, 5, 0x2c, 0x0c)
  const frames = fc.array(fc.tuple(type, flags, fc.uint8Array({ maxLength: 60 })), { maxLength: 6 })
  fc.assert(
    fc.property(frames, fc.integer({ min: 1, max: 20 }), (all, cut) => {
      const inspector = new FieldInspector(() => {})
      const bytes = Buffer.concat([
        Buffer.alloc(24),
        ...all.flatMap(([kind, flag, payload]) => [
          Buffer.from([0, 0, payload.length, kind, flag, 0, 0, 0, 1]),
          Buffer.from(payload),
        ]),
      ])
      for (let at = 0; at < bytes.length; at += cut) inspector.look(bytes.subarray(at, at + cut))
    }),
    { numRuns: 3_000 },
  )
})
