import { createRequire } from 'node:module'

/** Node's own parser, which node:http and node:https read with. Its face is not public; it is the same from Node 20 to 26. */
interface Parser {
  initialize(kind: number, resource: object): void
  execute(bytes: Buffer): number | Error
  finish(): unknown
  free(): void
  [hook: number]: unknown
}
const { HTTPParser } = createRequire(import.meta.url)('_http_common') as {
  HTTPParser: (new () => Parser) & Record<string, number>
}

/** A response as Node's client reads it. */
export interface LlhttpResponse {
  readonly status: number
  readonly reason: string
  /** Name, value, … */
  readonly fields: readonly string[]
  readonly body: string
  readonly keepAlive: boolean
}

/**
 * Reads bytes as Node's client does, in strict mode.
 *
 * @returns the complete responses, and what was wrong with the bytes, if anything was
 */
export function readWithLlhttp(bytes: Buffer): { responses: LlhttpResponse[]; wrong: string | undefined } {
  const parser = new HTTPParser()
  parser.initialize(HTTPParser.RESPONSE!, {})
  const responses: LlhttpResponse[] = []
  let head: Omit<LlhttpResponse, 'body'> | undefined
  let early: string[] = []
  let body = ''
  parser[HTTPParser.kOnHeaders! | 0] = (fields: string[]) => {
    early = early.concat(fields)
  }
  parser[HTTPParser.kOnHeadersComplete! | 0] = (
    ...[, , fields, , , status, reason, , keepAlive]: [
      number,
      number,
      string[] | undefined,
      unknown,
      unknown,
      number,
      string,
      boolean,
      boolean,
    ]
  ) => {
    head = { status, reason, fields: fields ?? early, keepAlive }
    early = []
    return 0
  }
  parser[HTTPParser.kOnBody! | 0] = (piece: Buffer) => {
    body += piece.toString('latin1')
  }
  parser[HTTPParser.kOnMessageComplete! | 0] = () => {
    responses.push({ ...head!, body })
    head = undefined
    body = ''
  }
  const result = parser.execute(Buffer.from(bytes))
  parser.free()
  return { responses, wrong: typeof result === 'number' ? undefined : result.message }
}
