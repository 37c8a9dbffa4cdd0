import fc from 'fast-check'
import t from 'tap'
import { wholeReader } from '../../../src/upstream/http1/whole-response.js'
import { wholeResponses, wholeTaken } from '../../fuzz/whole-responses.js'

const readWhole = wholeReader(['via'])
const read = (text: string) => readWhole(Buffer.from(text, 'latin1'), text.length)

t.test('an ordinary response is read as a whole, without what concerns the connection', async (t) => {
  t.strictSame(
    read(
      'HTTP/1.1 200 OK\r\nServer: x\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nDate: now\r\nContent-Length: 5\r\n\r\nhello',
    ),
    {
      status: 200,
      head: 'HTTP/1.1 200 OK\r\nServer: x\r\nDate: now\r\nContent-Length: 5\r\n',
      dated: true,
      chunked: false,
      body: 'hello',
      idleSeconds: 5,
    },
  )
  t.match(read('HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n'), {
    status: 404,
    dated: false,
    body: '',
  })
})

t.test('a response in chunks that are all there is read as a whole', async (t) => {
  const chunked = (body: string) => read(`HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${body}`)
  t.strictSame(chunked('5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n'), {
    status: 200,
    head: 'HTTP/1.1 200 OK\r\n',
    dated: false,
    chunked: true,
    body: 'hello!',
    idleSeconds: -1,
  })
  t.match(chunked('0\r\n\r\n'), { body: '' })
  for (const body of [
    ...['', '5\r\nhello\r\n', '5\r\nhello\r\n0\r\n', '5\r\nhello\r\n0\r\n\r\nx', '6\r\nhello\r\n0\r\n\r\n'],
    ...[
      '5;x\r\nhello\r\n0\r\n\r\n',
      '5 \r\nhello\r\n0\r\n\r\n',
      '5\nhello\r\n0\r\n\r\n',
      '-5\r\nhello\r\n0\r\n\r\n',
    ],
    ...[
      '5\r\nhello\r\n0\r\nX: y\r\n\r\n',
      '\r\n',
      '0x5\r\nhello\r\n0\r\n\r\n',
      '00005\r\nhello\r\n0\r\n\r\n',
    ],
  ])
    t.equal(chunked(body), undefined, JSON.stringify(body))
})

t.test('a response with anything unusual is left to the full reader', async (t) => {
  const usual = 'HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 2\r\n\r\nok'
  t.ok(read(usual))
  const line = (field: string) => usual.replace('X: y', field)
  for (const text of [
    ...[
      '',
      'HTTP/1.1 200 OK\r\n\r\n',
      usual.slice(0, -1),
      `${usual}x`,
      usual.replace('200 OK', '204 No Content'),
    ],
    ...[
      usual.replace('200', '304'),
      usual.replace('200', '103'),
      usual.replace('200', '999'),
      usual.replace('1.1', '1.0'),
    ],
    ...[
      usual.replace(' OK', ''),
      usual.replace('OK', ''),
      usual.replace('OK', 'O\tK'),
      usual.replace('200', '2 0'),
    ],
    ...[
      'Transfer-Encoding: chunked',
      'Content-Length: 2',
      'Connection: close',
      'Connection: X',
      'Trailer: X',
    ].map(line),
    ...[
      'Via: 1.1 a',
      'VIA: 1.1 a',
      'X:y',
      'X:  y',
      'X: y ',
      'X:',
      'X: ',
      ': y',
      'X : y',
      ' X: y',
      'X: \x80',
      'X: \0',
    ].map(line),
    ...[
      usual.replace('Length: 2', 'Length: 02'),
      usual.replace('Length: 2', 'Length: +2'),
      usual.replaceAll('\r\n', '\n'),
    ],
    `HTTP/1.1 200 OK\r\n${'X: y\r\n'.repeat(101)}Content-Length: 0\r\n\r\n`,
    `HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n${'x'.repeat(20_000)}`,
  ])
    t.equal(read(text), undefined, JSON.stringify(text.slice(0, 80)))
})

t.test(`${wholeResponses.what} (10,000 generated and mutated ones)`, async (t) => {
  await fc.assert(await wholeResponses.open(t), { numRuns: 10_000 })
  t.ok(wholeTaken() > 1_500, `${wholeTaken()} were read as a whole`)
})
