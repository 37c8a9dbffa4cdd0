import { readFileSync } from 'node:fs'
import t from 'tap'
import { ERRORS, type ErrorCode, problemBody } from '../src/errors.js'

const page = readFileSync(new URL('../docs/errors.md', import.meta.url), 'utf8')

/** Returns the rows of the tables in docs/errors.md: code → its other cells. */
const rows = new Map(
  page
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) => line.slice(1, -1).split('|'))
    .map(([code, ...cells]) => [code!.trim().slice(1, -1), cells.map((cell) => cell.trim())] as const),
)

t.test('docs/errors.md lists exactly the codes of the table', async (t) => {
  t.same([...rows.keys()].sort(), Object.keys(ERRORS).sort())
})

t.test('docs/errors.md has the status, source and title of every code', async (t) => {
  for (const [code, { status, source, title }] of Object.entries(ERRORS)) {
    const [pageStatus, pageSource, pageTitle, when] = rows.get(code) ?? []
    t.same([pageStatus, pageSource, pageTitle], [String(status), source, title], code)
    t.ok(when !== undefined && when.length > 10, `${code}: when it happens`)
  }
})

t.test('errors of clients are 4xx, those of the gateway and upstreams 5xx', async (t) => {
  for (const [code, { status, source }] of Object.entries(ERRORS)) {
    // 501 and 505 are the client's, but HTTP counts them to the server (RFC 9110 §15.6).
    const blamed = status < 500 || status === 501 || status === 505 ? 'client' : undefined
    if (blamed === undefined) t.not(source, 'client', code)
    else t.equal(source, 'client', code)
  }
})

t.test('every entry has a title and a detail in sentences, without addresses or paths', async (t) => {
  for (const [code, { title, detail }] of Object.entries(ERRORS)) {
    t.match(title, /^[A-Z][^.]*$/, `${code}: title`)
    t.match(detail, /^[A-Z].*[^.]\.$/, `${code}: detail`)
    t.notMatch(detail, /127\.0\.0\.1|localhost|:\d{4}|\/home\/|node_modules/, `${code}: detail`)
  }
})

t.test('a problem body follows RFC 9457, with the request id', async (t) => {
  t.equal(
    problemBody({ code: 'no_route' }, 'req-1'),
    '{"title":"No such route","status":404,' +
      '"detail":"No route of this gateway matches the host and path of the request.",' +
      '"code":"no_route","request_id":"req-1"}',
  )
})

t.test('a spent quota has the registered problem type and names the policies', async (t) => {
  const refusal = { code: 'quota_exceeded', detail: 'Wait.', violatedPolicies: ['minute', 'second'] } as const
  t.equal(
    problemBody(refusal, 'req-1'),
    '{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","title":"Quota exceeded",' +
      '"status":429,"detail":"Wait.","code":"quota_exceeded","violated-policies":["minute","second"],' +
      '"request_id":"req-1"}',
  )
})

t.test('a cause for the log never gets into a body', async (t) => {
  for (const code of Object.keys(ERRORS) as ErrorCode[]) {
    t.notMatch(problemBody({ code, cause: 'connect ECONNREFUSED 10.0.0.5:9001' }, 'r'), /ECONN|10\.0\.0\.5/)
  }
})
