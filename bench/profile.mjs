/**
 * `node bench/profile.mjs FILE.cpuprofile [N]`: where the time of a profile went, by function and by part. Idle time is
 * left out; `(program)` is native code outside of JavaScript: system calls, the HTTP parser, the event loop.
 */
import { readFileSync } from 'node:fs'
import { printTable } from './table.mjs'

const [file, most = '25'] = process.argv.slice(2)
if (file === undefined) {
  console.error('Usage: node bench/profile.mjs FILE.cpuprofile [N]')
  process.exit(2)
}
const { nodes, samples, timeDeltas } = JSON.parse(readFileSync(file, 'utf8'))
const byId = new Map(nodes.map((n) => [n.id, n]))

function place(url) {
  if (url === '') return ''
  const inPackage = /.*node_modules\/((?:@[^/]+\/)?[^/]+)\/(.+)$/.exec(url)
  if (inPackage) return `${inPackage[1]}/${inPackage[2]}`
  return url.replace(/.*\/dist\//, 'dist/').replace(/^file:\/\/.*\//, '')
}
function part(name, url) {
  if (url === '') return name
  if (url.startsWith('node:')) return 'node'
  const at = place(url)
  if (at.startsWith('dist/')) return at.split('/').slice(0, 2).join('/')
  return at.startsWith('@') ? at.split('/').slice(0, 2).join('/') : at.split('/')[0]
}

const functions = new Map()
const parts = new Map()
let total = 0
samples.forEach((id, i) => {
  const { functionName, url, lineNumber } = byId.get(id).callFrame
  if (functionName === '(idle)') return
  const us = timeDeltas[i]
  total += us
  const where = url ? `${place(url)}:${lineNumber + 1}` : ''
  const key = `${functionName || '(anonymous)'} ${where}`.trim()
  functions.set(key, (functions.get(key) ?? 0) + us)
  const room = part(functionName, url)
  parts.set(room, (parts.get(room) ?? 0) + us)
})

for (const [title, map, n] of [
  ['function', functions, Number(most)],
  ['part', parts, 20],
]) {
  const rows = [...map].sort((a, b) => b[1] - a[1]).slice(0, n)
  printTable(
    [title, 'self %'],
    rows.map(([key, us]) => [key, ((us / total) * 100).toFixed(1)]),
  )
  console.log()
}
