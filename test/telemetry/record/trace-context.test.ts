import fc from 'fast-check'
import t from 'tap'
import {
  formatTraceparent,
  type ParentContext,
  parseTraceparent,
  parseTracestate,
} from '../../../src/telemetry/record/trace-context.js'

const hex = (digits: number) =>
  fc
    .array(fc.constantFrom(...'0123456789abcdef'), { minLength: digits, maxLength: digits })
    .map((all) => all.join(''))
const id = (digits: number) => hex(digits).filter((text) => !/^0+$/.test(text))
const flags = fc.integer({ min: 0, max: 255 })
const TRACE = '0af7651916cd43dd8448eb211c80319c'
const SPAN = 'b7ad6b7169203331'

t.test('a formatted traceparent is parsed back', async () => {
  fc.assert(
    fc.property(id(32), id(16), flags, (traceId, spanId, flags) => {
      const text = formatTraceparent(traceId, spanId, flags)
      const read = parseTraceparent(text)
      return text.length === 55 && JSON.stringify(read) === JSON.stringify({ traceId, spanId, flags })
    }),
  )
})

/** Parses as §3.2 and §4.3 say it, word for word: slow, and independent of ours. */
function byTheBook(value: string): ParentContext | undefined {
  const [version = '', traceId = '', spanId = '', flags = '', ...more] = value.split('-')
  const isHex = (text: string, digits: number) =>
    text.length === digits && [...text].every((digit) => '0123456789abcdef'.includes(digit))
  if (!isHex(version, 2) || version === 'ff') return undefined
  if (!isHex(traceId, 32) || /^0+$/.test(traceId)) return undefined
  if (!isHex(spanId, 16) || /^0+$/.test(spanId)) return undefined
  if (!isHex(flags, 2)) return undefined
  if (version === '00' && more.length > 0) return undefined
  return { traceId, spanId, flags: Number(`0x${flags}`) }
}

t.test('any text is parsed as the specification says, or refused', async () => {
  const nearly = fc
    .tuple(
      fc.oneof(hex(2), fc.constantFrom('00', 'ff', '01', '0', '000', 'FF')),
      fc.oneof(hex(32), fc.constantFrom('0'.repeat(32), TRACE.toUpperCase(), 'a'.repeat(31))),
      fc.oneof(hex(16), fc.constantFrom('0'.repeat(16), 'b'.repeat(17), 'g'.repeat(16))),
      fc.oneof(hex(2), fc.constantFrom('1', 'zz', '001')),
      fc.constantFrom('', '', '', '-', '-extra', '.', ' ', '\n'),
    )
    .map(([version, trace, span, flags, rest]) => `${version}-${trace}-${span}-${flags}${rest}`)
  fc.assert(
    fc.property(fc.oneof(nearly, fc.string({ maxLength: 80 })), (text) => {
      return JSON.stringify(parseTraceparent(text)) === JSON.stringify(byTheBook(text))
    }),
    { numRuns: 2000 },
  )
})

t.test('a later version counts with the fields known today', async (t) => {
  const parent = { traceId: TRACE, spanId: SPAN, flags: 1 }
  t.same(parseTraceparent(`cc-${TRACE}-${SPAN}-01`), parent)
  t.same(parseTraceparent(`cc-${TRACE}-${SPAN}-01-what-the-future-will-be-like`), parent)
  t.equal(parseTraceparent(`cc-${TRACE}-${SPAN}-01.what`), undefined)
  t.equal(parseTraceparent(`00-${TRACE}-${SPAN}-01-more`), undefined)
})

const member = fc
  .tuple(fc.stringMatching(/^[a-z][a-z0-9_*/-]{0,8}$/), fc.stringMatching(/^[!-+\--<>-~]{1,8}$/))
  .map(([key, value]) => [key, value] as const)

t.test('a tracestate keeps its members in order, whatever stands between them', async () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(member, { minLength: 1, maxLength: 20, selector: ([key]) => key }),
      fc.array(fc.constantFrom(',', ' ,', ', ', '\t,\t', ',,', ' , ,'), { minLength: 20, maxLength: 20 }),
      (members, between) => {
        const texts = members.map(([key, value]) => `${key}=${value}`)
        const spaced = texts.map((text, i) => text + (i < texts.length - 1 ? between[i]! : '')).join('')
        return parseTracestate(spaced) === (spaced.length > 512 ? undefined : texts.join(','))
      },
    ),
  )
})

t.test('a tracestate that is too long, or invalid in one member, is dropped whole', async (t) => {
  const members = (count: number) => Array.from({ length: count }, (_, i) => `k${i}=v`).join(',')
  t.equal(parseTracestate(members(32)), members(32))
  t.equal(parseTracestate(members(33)), undefined)
  t.equal(parseTracestate(`a=${'v'.repeat(256)},b=${'v'.repeat(251)}`)?.length, 512)
  t.equal(parseTracestate(`a=${'v'.repeat(256)},b=${'v'.repeat(252)}`), undefined)
  t.equal(parseTracestate(`a=${'v'.repeat(257)}`), undefined)
  t.equal(parseTracestate('fw529a3039@dt=FfAD,0tenant@sys=1'), 'fw529a3039@dt=FfAD,0tenant@sys=1')
  for (const text of [
    '',
    ' , ',
    'a',
    'a=',
    '=v',
    'A=v',
    '@a=v',
    '_a=v',
    'a=v=w',
    'a=ü',
    `${'k'.repeat(257)}=v`,
  ]) {
    t.equal(parseTracestate(text), undefined, text)
  }
})

t.test('a key may begin with a digit and contain an @ (Level 2)', async (t) => {
  for (const text of ['0a=v', '0=v', 'a@b@c=1', '9@=1', `${'k'.repeat(256)}=v`, `0${'a@_-*/'.repeat(42)}=v`])
    t.equal(parseTracestate(text), text)
})

t.test('of a repeated key the first value is kept, and the list stays', async (t) => {
  t.equal(parseTracestate('a=1,b=2,a=3'), 'a=1,b=2')
  t.equal(parseTracestate('a=1,a=1'), 'a=1')
  t.equal(parseTracestate(`${Array.from({ length: 40 }, () => 'a=1').join(',')}`), 'a=1')
})
