import fc from 'fast-check'
import t from 'tap'
import { closeFrame, FrameBoundary } from '../../../src/gateway/websocket/frames.js'

interface Frame {
  readonly opcode: number
  readonly length: number
  readonly masked: boolean
}

/** RFC 6455 §5.2. The payload is made to look like headers. */
function encode({ opcode, length, masked }: Frame): Buffer {
  const extended = length < 126 ? 0 : length < 65_536 ? 2 : 8
  const header = Buffer.alloc(2 + extended + (masked ? 4 : 0), 0x88)
  header[0] = 0x80 | opcode
  header[1] = (masked ? 0x80 : 0) | (extended === 0 ? length : extended === 2 ? 126 : 127)
  if (extended === 2) header.writeUInt16BE(length, 2)
  if (extended === 8) header.writeBigUInt64BE(BigInt(length), 2)
  return Buffer.concat([header, Buffer.alloc(length, 0x88)])
}

const frame: fc.Arbitrary<Frame> = fc.record({
  opcode: fc.constantFrom(0, 1, 2, 9, 10),
  length: fc.oneof(
    { weight: 8, arbitrary: fc.nat({ max: 300 }) },
    fc.constantFrom(0, 125, 126, 127, 65_535, 65_536, 70_000),
  ),
  masked: fc.boolean(),
})

t.test('FrameBoundary is clean exactly between frames, however they are cut', async (t) => {
  const check = () =>
    fc.assert(
      fc.property(fc.array(frame, { maxLength: 8 }), fc.array(fc.nat({ max: 5_000 })), (frames, cuts) => {
        const encoded = frames.map(encode)
        const all = Buffer.concat(encoded)
        const ends = new Set([0])
        let end = 0
        for (const one of encoded) {
          end += one.length
          ends.add(end)
        }
        const boundary = new FrameBoundary()
        let at = 0
        for (const cut of [...cuts, all.length]) {
          const chunk = all.subarray(at, at + cut)
          if (boundary.read(chunk) !== chunk.length) return false
          at += chunk.length
          if (boundary.clean !== ends.has(at)) return false
        }
        return !boundary.closed
      }),
    )
  t.doesNotThrow(check)
})

t.test('it stops after the current frame when asked to', async (t) => {
  const check = () =>
    fc.assert(
      fc.property(frame, frame, fc.nat(), (first, second, seed) => {
        const begun = encode(first)
        const all = Buffer.concat([begun, encode(second)])
        const cut = 1 + (seed % (begun.length - 1))
        const boundary = new FrameBoundary()
        boundary.read(all.subarray(0, cut))
        return boundary.read(all.subarray(cut), true) === begun.length - cut && boundary.clean
      }),
    )
  t.doesNotThrow(check)
})

t.test('it notices a Close, also between the fragments of a message', async (t) => {
  const boundary = new FrameBoundary()
  boundary.read(Buffer.from([0x01, 1, 0x88]))
  t.notOk(boundary.closed, 'a payload is not looked at')
  boundary.read(closeFrame(1000).subarray(0, 1))
  t.notOk(boundary.closed)
  boundary.read(closeFrame(1000).subarray(1))
  t.ok(boundary.closed)
  t.ok(boundary.clean)
})

t.test('it survives a length that no number holds', async (t) => {
  const boundary = new FrameBoundary()
  boundary.read(Buffer.from([0x82, 127, 255, 255, 255, 255, 255, 255, 255, 255]))
  boundary.read(Buffer.alloc(1000))
  t.notOk(boundary.clean)
  t.equal(boundary.read(Buffer.alloc(1000), true), 1000)
})

t.test('closeFrame makes an unmasked Close with its code', async (t) => {
  t.same(closeFrame(1001), Buffer.from([0x88, 0x02, 0x03, 0xe9]))
  t.same(
    closeFrame(1008, 'no'),
    Buffer.from([0x88, 0x04, 0x03, 0xf0, 0x6e, 0x6f]),
    'and a reason, where there is one',
  )
})
