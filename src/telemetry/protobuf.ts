/**
 * Writes Protocol Buffers (encoding guide, proto3): as much of it as OTLP's metrics and Prometheus' exposition need.
 * The classes that OpenTelemetry's packages have for it are not exported, and know no exemplars.
 */
export interface ProtobufWriter {
  /** uint32, uint64, bool, enum: an integer from 0 to 2^53. */
  varint(field: number, value: number): void
  /** sint32, sint64. */
  zigzag(field: number, value: number): void
  /** fixed64: an integer from 0 to 2^53. */
  fixed64(field: number, value: number): void
  /** fixed64 of Unix time, ms to nanoseconds, which are more than a number holds exactly. */
  nanoseconds(field: number, ms: number): void
  double(field: number, value: number): void
  string(field: number, value: string): void
  bytes(field: number, value: Uint8Array): void
  /** A message in a message: what `write` writes is its content. */
  message(field: number, write: () => void): void
  /** The same without field and type before it: a message of a stream of messages. */
  delimited(write: () => void): void
  packedFixed64(field: number, values: Iterable<number>): void
  packedDouble(field: number, values: Iterable<number>): void
  packedVarint(field: number, values: Iterable<number>): void
  packedZigzag(field: number, values: Iterable<number>): void
  /** Fields that another writer has written. */
  raw(fields: Uint8Array): void
  /** What was written so far. Valid until more is. */
  finish(): Uint8Array
}

const VARINT = 0
const FIXED64 = 1
const DELIMITED = 2
const LONGEST_VARINT = 10
const TWO_32 = 2 ** 32
const NS_OF_MS = 1_000_000n

export function createProtobufWriter(): ProtobufWriter {
  let buffer = Buffer.allocUnsafe(4096)
  let at = 0

  function room(bytes: number): void {
    if (at + bytes <= buffer.length) return
    const next = Buffer.allocUnsafe(Math.max(2 * buffer.length, at + bytes))
    buffer.copy(next, 0, 0, at)
    buffer = next
  }

  function putVarint(value: number): void {
    room(LONGEST_VARINT)
    let rest = value
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) buffer[at++] = (rest % 0x80) | 0x80
    buffer[at++] = rest
  }

  function putFixed64(value: number): void {
    room(8)
    at = buffer.writeUInt32LE(value % TWO_32, at)
    at = buffer.writeUInt32LE(Math.floor(value / TWO_32), at)
  }

  function putDouble(value: number): void {
    room(8)
    at = buffer.writeDoubleLE(value, at)
  }

  function putRaw(value: Uint8Array): void {
    room(value.length)
    buffer.set(value, at)
    at += value.length
  }

  /** Its length stands before what is written, which moves when the length takes more than the one byte left for it. */
  function putDelimited(write: () => void): void {
    room(1)
    const from = ++at
    write()
    const length = at - from
    if (length < 0x80) {
      buffer[from - 1] = length
      return
    }
    const bytes = Math.ceil((32 - Math.clz32(length)) / 7)
    room(bytes)
    buffer.copyWithin(from - 1 + bytes, from, at)
    at = from - 1
    putVarint(length)
    at += length
  }

  const tag = (field: number, type: number) => putVarint(field * 8 + type)

  function packed(put: (value: number) => void) {
    return (field: number, values: Iterable<number>) => {
      tag(field, DELIMITED)
      putDelimited(() => {
        for (const value of values) put(value)
      })
    }
  }

  const zigzagOf = (value: number) => (value < 0 ? -2 * value - 1 : 2 * value)

  return {
    varint(field, value) {
      tag(field, VARINT)
      putVarint(value)
    },
    zigzag(field, value) {
      tag(field, VARINT)
      putVarint(zigzagOf(value))
    },
    fixed64(field, value) {
      tag(field, FIXED64)
      putFixed64(value)
    },
    nanoseconds(field, ms) {
      tag(field, FIXED64)
      room(8)
      at = buffer.writeBigUInt64LE(BigInt(Math.round(ms)) * NS_OF_MS, at)
    },
    double(field, value) {
      tag(field, FIXED64)
      putDouble(value)
    },
    string(field, value) {
      tag(field, DELIMITED)
      const length = Buffer.byteLength(value)
      putVarint(length)
      room(length)
      at += buffer.write(value, at)
    },
    bytes(field, value) {
      tag(field, DELIMITED)
      putVarint(value.length)
      putRaw(value)
    },
    raw: putRaw,
    message(field, write) {
      tag(field, DELIMITED)
      putDelimited(write)
    },
    delimited: putDelimited,
    packedFixed64: packed(putFixed64),
    packedDouble: packed(putDouble),
    packedVarint: packed(putVarint),
    packedZigzag: packed((value) => putVarint(zigzagOf(value))),
    finish: () => buffer.subarray(0, at),
  }
}
