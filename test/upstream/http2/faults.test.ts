import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t from 'tap'
import { FLAG, frame, headerBlock, TYPE } from '../../support/http/http2-frames.js'
import { within } from '../../support/within.js'

const built = (name: string) =>
  JSON.stringify(new URL(`../../../dist/upstream/${name}.js`, import.meta.url).href)

/**
 * Sends requests to a server in the same process, each on a connection that is destroyed with its stream. Without
 * `keepWithStreams` Node 20.20.2 aborts every time.
 */
const ASKS = `
import { connect } from 'node:http2'
import { createServer } from 'node:net'
import { keepWithStreams } from ${built('http2/faults')}
const [settings, response] = process.argv.slice(2).map((bytes) => Buffer.from(bytes, 'hex'))
const server = createServer((socket) => {
  socket.on('error', () => {})
  socket.write(settings)
  let rest = Buffer.alloc(0)
  let preface = 24
  socket.on('data', (data) => {
    rest = Buffer.concat([rest, data])
    if (rest.length < preface) return
    rest = rest.subarray(preface)
    preface = 0
    while (rest.length >= 9 && rest.length >= 9 + rest.readUIntBE(0, 3)) {
      if (rest[3] === 1) {
        // So that V8 looks for garbage of its own accord, in the middle of things.
        Array.from({ length: 300 }, (_, i) => ['x-' + i, 'b'.repeat(20)]).flatMap(([name, value]) => [...Buffer.from(name + value)])
        socket.write(response)
      }
      rest = rest.subarray(9 + rest.readUIntBE(0, 3))
    }
  })
})
server.listen(0, '127.0.0.1', async () => {
  for (let i = 0; i < 300; i++) {
    await new Promise((over) => {
      const session = connect('http://127.0.0.1:' + server.address().port)
      keepWithStreams(session)
      session.on('error', () => {})
      session.on('connect', () => {
        const stream = session.request({ ':path': '/' })
        stream.on('error', () => {})
        stream.resume()
        stream.on('close', () => {
          session.destroy()
          setImmediate(over)
        })
        // It is referred to for longer than its connection.
        setTimeout(() => stream, 20)
      })
    })
  }
  process.exit(0)
})
`

t.test('an upstream that sends too many header fields does not end the process', async (t) => {
  const fields = Array.from({ length: 200 }, (_, i): [string, string] => [`x-${i}`, 'b'.repeat(20)])
  const response = frame(TYPE.headers, FLAG.endHeaders, 1, headerBlock([[':status', '200'], ...fields]))
  const bytes = [frame(TYPE.settings, 0, 0), response].map((one) => one.toString('hex'))
  const file = `${t.testdir({ 'asks.mjs': ASKS })}/asks.mjs`
  const child = spawn(process.execPath, [file, ...bytes], { stdio: 'ignore' })
  t.teardown(() => child.kill('SIGKILL'))
  t.strictSame(await within(60_000, 'its end', once(child, 'exit')), [0, null])
})
