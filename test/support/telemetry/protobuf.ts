/** A Protocol Buffers message without its schema: the values of each field as they stand on the wire. */
export type Message = ReadonlyMap<number, readonly (bigint | Buffer)[]>

/** Parses a message. Throws if it is malformed. Fields of 64 bits and of variable length are numbers, all others bytes. */
export function decode(bytes: Buffer): Message {
  const fields = new Map<number, (bigint | Buffer)[]>()
  let at = 0
  const varint = () => {
    let value = 0n
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at++]
      if (byte === undefined) throw new Error('ends within a number')
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return value
    }
  }
  const take = (length: number) => {
    if (at + length > bytes.length) throw new Error('ends within a field')
    at += length
    return bytes.subarray(at - length, at)
  }
  while (at < bytes.length) {
    const tag = Number(varint())
    const type = tag % 8
    if (type > 2 || tag < 8) throw new Error(`no field of ours: ${tag}`)
    const value = type === 0 ? varint() : type === 1 ? take(8).readBigUInt64LE() : take(Number(varint()))
    const field = Math.floor(tag / 8)
    fields.set(field, [...(fields.get(field) ?? []), value])
  }
  return fields
}

/** Returns the messages of a repeated field. */
export function messages(message: Message | undefined, field: number): Message[] {
  return (message?.get(field) ?? []).map((value) => decode(value as Buffer))
}

export function text(message: Message | undefined, field: number): string | undefined {
  return (message?.get(field)?.[0] as Buffer | undefined)?.toString()
}

export function number(message: Message | undefined, field: number): number | undefined {
  const value = message?.get(field)?.[0]
  return value === undefined ? undefined : Number(value)
}

export function double(message: Message | undefined, field: number): number | undefined {
  const value = message?.get(field)?.[0]
  if (value === undefined) return undefined
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(value as bigint)
  return bytes.readDoubleLE()
}
