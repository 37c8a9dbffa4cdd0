/** Accepts OTLP pushes and throws them away. Run as a child: sends its port, and answers with `pushes` and `bytes` over IPC. */
import { createServer } from 'node:http'

let pushes = 0
let bytes = 0
const server = createServer((request, response) => {
  request.on('data', (chunk) => {
    bytes += chunk.length
  })
  request.on('end', () => {
    pushes++
    response.end()
  })
})
server.listen(0, '127.0.0.1', () => process.send({ port: server.address().port }))
process.on('message', () => process.send({ pushes, bytes }))
