/** Types of frames (RFC 9113 §6). */
export enum FrameType {
  Data,
  Headers,
  Priority,
  Reset,
  Settings,
  PushPromise,
  Ping,
  GoAway,
  WindowUpdate,
  Continuation,
}

/** Flags of frames. */
export enum Flag {
  EndStream = 0x1,
  EndHeaders = 0x4,
  Padded = 0x8,
  Priority = 0x20,
}

/** Flag of SETTINGS and PING. */
export const ACK = 0x1

/** Error codes (RFC 9113 §7). */
export enum ErrorCode {
  None,
  Protocol,
  Internal,
  FlowControl,
  SettingsTimeout,
  StreamClosed,
  FrameSize,
  Refused,
  Cancel,
  Compression,
  Connect,
  EnhanceYourCalm,
}

/** A fault of the client after which its connection cannot go on (RFC 9113 §5.4.1). */
export class ConnectionError extends Error {
  readonly code: ErrorCode

  constructor(code: ErrorCode) {
    super(`HTTP/2 connection error ${code}`)
    this.code = code
  }
}

export const FRAME_HEAD = 9
/** Longest payload of a frame, both ways, in bytes. Neither side has to take longer ones. */
export const MAX_FRAME = 16_384
export const MAX_WINDOW = 0x7fff_ffff

/** Returns a frame's header as Latin-1 text. */
export function frameHead(length: number, type: FrameType, flags: number, stream: number): string {
  return String.fromCharCode(
    length >> 16,
    (length >> 8) & 255,
    length & 255,
    type,
    flags,
    stream >>> 24,
    (stream >> 16) & 255,
    (stream >> 8) & 255,
    stream & 255,
  )
}

/** Returns a number of 32 bits as Latin-1 text. */
export function uint32(value: number): string {
  return String.fromCharCode(value >>> 24, (value >> 16) & 255, (value >> 8) & 255, value & 255)
}
