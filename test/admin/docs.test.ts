import { readdirSync, readFileSync } from 'node:fs'
import t from 'tap'
import { type ProblemCode, problemText, statusOf } from '../../src/admin/access/problem.js'
import { startAdmin } from '../support/gateway/admin.js'

const page = readFileSync(new URL('../../docs/admin-api.md', import.meta.url), 'utf8')

t.test('docs/admin-api.md lists exactly the endpoints', async (t) => {
  const { app } = await startAdmin(t)
  const documented = [...page.matchAll(/^## (GET|POST|PUT|DELETE) (\S+)$/gm)].map(
    ([, method, path]) => `${method} ${path!.replace(/\{(\w+)\}/g, ':$1')}`,
  )
  const folder = new URL('../../src/admin/', import.meta.url)
  const sources = readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => readFileSync(new URL(file, folder), 'utf8'))
  const calls = sources.flatMap((source) => [
    ...source.matchAll(/app\.(get|post|put|delete)(?:<\w+>)?\(\s*'([^']+)'/g),
  ])
  const served = calls.map(([, method, path]) => `${method!.toUpperCase()} ${path}`)
  for (const route of served) {
    const [method = '', url = ''] = route.split(' ')
    t.ok(app.hasRoute({ method, url }), route)
  }
  t.same(documented.sort(), served.sort())
})

t.test('docs/admin-api.md has every error code with its status, and real response examples', async (t) => {
  const rows = [...page.matchAll(/^\| (\d{3}) \| `(\w+)` \|/gm)]
  t.ok(rows.length > 8)
  for (const [, status, code] of rows) t.equal(statusOf(code as ProblemCode), Number(status), `${code}`)
  const source = readFileSync(new URL('../../src/admin/access/problem.ts', import.meta.url), 'utf8')
  const defined = [...source.matchAll(/^ {2}(\w+): \[\d+/gm)].map(([, code]) => code)
  t.same(rows.map(([, , code]) => code).sort(), defined.sort())

  for (const [, text] of page.matchAll(/^(\{"title".+\})$/gm)) {
    const { title, status, detail, code, ...more } = JSON.parse(text!)
    t.equal(problemText({ code, detail, more }), text)
    t.ok(title && status)
  }
})
