/**
 * `node bench/profile.mjs FILE.cpuprofile [N] [SKIP]`: where the time of a profile went, by function (N of them) and
 * by part, less the first SKIP seconds, in which a process starts up. Idle time is left out. `total` counts a function
 * with all that it called; `(program)` is native code outside of JavaScript: the event loop, the HTTP parser.
 */
import { readFileSync } from 'node:fs'
import { printTable } from './harness/table.mjs'

const [file, most = '25', skip = '2'] = process.argv.slice(2)
if (file === undefined) {
  console.error('Usage: node bench/profile.mjs FILE.cpuprofile [N] [SKIP]')
  process.exit(2)
}
const { nodes, samples, timeDeltas } = JSON.parse(readFileSync(file, 'utf8'))
const byId = new Map(nodes.map((n) => [n.id, n]))
const parents = new Map(nodes.flatMap((n) => (n.children ?? []).map((child) => [child, n.id])))

function place(url) {
  const inPackage = /.*node_modules\/((?:@[^/]+\/)?[^/]+)\/(.+)$/.exec(url)
  if (inPackage) return `${inPackage[1]}/${inPackage[2]}`
  return url.replace(/.*\/dist\//, 'dist/')
}

function nameOf({ functionName, url, lineNumber }) {
  const where = url ? ` ${place(url)}:${lineNumber + 1}` : ''
  return (functionName || '(anonymous)') + where
}

function partOf({ functionName, url }) {
  if (url === '') return functionName || '(anonymous)'
  if (url.startsWith('node:')) return 'node'
  const [first, second] = place(url).split('/')
  return first === 'dist' || first.startsWith('@') ? `${first}/${second}` : first
}

const self = new Map()
const total = new Map()
const parts = new Map()
let all = 0
let elapsed = 0
const add = (map, key, us) => map.set(key, (map.get(key) ?? 0) + us)
samples.forEach((id, i) => {
  elapsed += timeDeltas[i]
  const { callFrame } = byId.get(id)
  if (elapsed < Number(skip) * 1e6 || callFrame.functionName === '(idle)') return
  const us = timeDeltas[i]
  all += us
  add(self, nameOf(callFrame), us)
  add(parts, partOf(callFrame), us)
  const stack = new Set()
  for (let at = id; at !== undefined; at = parents.get(at)) stack.add(nameOf(byId.get(at).callFrame))
  for (const name of stack) add(total, name, us)
})

const percent = (us) => ((us / all) * 100).toFixed(1)
const top = (map, n) => [...map].sort((a, b) => b[1] - a[1]).slice(0, n)
printTable(
  ['self time by function', 'self %', 'total %'],
  top(self, Number(most)).map(([name, us]) => [name, percent(us), percent(total.get(name))]),
)
console.log()
printTable(
  ['total time by function', 'self %', 'total %'],
  top(total, Number(most)).map(([name, us]) => [name, percent(self.get(name) ?? 0), percent(us)]),
)
console.log()
printTable(
  ['self time by part', 'self %'],
  top(parts, 20).map(([name, us]) => [name, percent(us)]),
)
