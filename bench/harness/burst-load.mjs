/**
 * Clients that connect at the same moment and then ask as fast as they are answered. Run as a child: it takes a job over IPC
 * (`port`, `path`, `clients`, `seconds`) and says how long each waited for its first response, in ms from when it began to connect.
 */
import net from 'node:net'

function run({ port, path, clients, seconds }) {
  return new Promise((resolve) => {
    const firsts = []
    let [requests, wrong] = [0, 0]
    const sockets = Array.from({ length: clients }, (_, i) => {
      const began = performance.now()
      const request = `GET ${path}/${i} HTTP/1.1\r\nHost: burst.example\r\nX-User-Id: burst-${i}\r\n\r\n`
      const socket = net.connect(port, '127.0.0.1')
      let answered = false
      socket.setNoDelay(true)
      socket.on('connect', () => socket.write(request))
      socket.on('error', () => wrong++)
      // A response is small, so it comes whole.
      socket.on('data', (chunk) => {
        requests++
        if (chunk.latin1Slice(9, 12) !== '200') wrong++
        if (!answered) firsts.push(performance.now() - began)
        answered = true
        socket.write(request)
      })
      return socket
    })
    setTimeout(() => {
      for (const socket of sockets) socket.destroy()
      const missing = clients - firsts.length
      // Those that were not answered waited all the time, at least.
      firsts.push(...Array(missing).fill(seconds * 1000))
      firsts.sort((a, b) => a - b)
      const at = (share) => firsts[Math.ceil(clients * share) - 1]
      resolve({ p50: at(0.5), p99: at(0.99), missing, wrong, requests })
    }, seconds * 1000)
  })
}

process.on('message', async (job) => process.send(await run(job)))
process.send({ port: 0 })
