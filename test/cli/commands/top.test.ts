// Tests src/cli/client/admin-option.ts
import { PassThrough } from 'node:stream'
import type { ReadStream, WriteStream } from 'node:tty'
import t, { type Test } from 'tap'
import { request } from 'undici'
import type { TopAnswer } from '../../../src/admin/routes/top.js'
import type { Control } from '../../../src/cli/client/admin-client.js'
import { Refused } from '../../../src/cli/command.js'
import { watchTop } from '../../../src/cli/commands/top-watch.js'
import { widthOf } from '../../../src/cli/print/display-width.js'
import { keysOf } from '../../../src/cli/print/screen.js'
import { type TopView, topLines } from '../../../src/cli/print/top-table.js'
import { freePort } from '../../support/free-port.js'
import { tidegate } from '../../support/gateway/cli.js'
import { startBackend, startProcess, storeUp } from '../../support/gateway/process.js'
import { hasRedisServer, startRedis } from '../../support/redis/redis.js'

const TO = '2026-11-25T12:00:45.000Z'
const ROW = {
  consumer: 'acme',
  service: 'payments',
  tier: 'pro',
  count: 1730,
  error: 0,
  share: 0.8168,
  limit: 'second',
  since: '2026-11-25T11:51:00.000Z',
}
const ANSWER: TopAnswer = {
  by: 'limited',
  from: '2026-11-25T12:00:00.000Z',
  to: TO,
  nodes: { answered: 3, silent: [], problem: null },
  total: 2118,
  floor: 9,
  missed: 0,
  rows: [
    ROW,
    {
      ...ROW,
      consumer: '客戶服務中心\u001b[2J',
      tier: 'free',
      count: 204,
      error: 3,
      share: 0.0963,
      since: TO,
    },
    { ...ROW, consumer: 'x'.repeat(100), count: 9, error: 9, share: 0.0042, limit: null, since: TO },
  ],
}
const plain = (_: string, text: string) => text
const view = (changes: Partial<TopView> = {}): TopView => {
  const asked = { by: 'limited', service: undefined, tier: undefined } as const
  return { ...asked, told: ANSWER, problem: undefined, columns: 80, ...changes }
}
const text = (changes?: Partial<TopView>) => {
  const { head, rows, foot } = topLines(view(changes), plain)
  return [...head, ...rows, ...foot].join('\n')
}

t.test('the table has a line for each consumer, with the range of its count', async (t) => {
  t.equal(
    text(),
    [
      'limited most · all services · last 45 s · 3 gateways',
      'consumer                  service   tier   denied  per s   share  limit    since',
      'acme                      payments  pro     1,730   38.4  81.7 %  second  10 min',
      '客戶服務中心\\u{1b}[2J     payments  free  201–204    4.5   9.6 %  second     0 s',
      'xxxxxxxxxxxxxxxxxxxxxxx…  payments  pro       0–9    0.2   0.4 %             0 s',
      'no other consumer has more than 9',
    ].join('\n'),
  )
  t.match(text({ columns: Number.POSITIVE_INFINITY }), 'x'.repeat(100))
})

t.test('the table fits the narrowest terminal', async (t) => {
  for (let columns = 1; columns < 130; columns++) {
    const widest = Math.max(...text({ columns, problem: 'no gateway answers' }).split('\n').map(widthOf))
    t.ok(widest <= columns, `${columns}`)
  }
  t.match(text({ columns: 44 }), /^consumer +service +tier +denied$/m)
  t.match(text({ columns: 20 }), /^consumer +denied$/m)
})

t.test('top says what is missing: consumers, gateways, the store, an answer', async (t) => {
  t.match(text({ told: { ...ANSWER, rows: [], floor: 0 } }), /\nNo consumer is being limited\.$/)
  t.match(text({ by: 'near', told: { ...ANSWER, rows: [] } }), /\nNo consumer is near a limit\.$/)
  t.equal(
    text({ by: 'cost', service: 'payments', tier: 'pro', told: undefined }),
    'costing most · payments · pro',
  )
  const silent = { answered: 2, silent: ['b:7\u001b[31m'], problem: null }
  t.match(
    text({ told: { ...ANSWER, nodes: silent } }),
    / 2 of 3 gateways\n[\s\S]*\nno answer from b:7\\u\{1b}\[31m$/,
  )
  const alone = { answered: 1, silent: [], problem: 'the store is out of reach' }
  t.match(
    text({ told: { ...ANSWER, nodes: alone } }),
    / 1 gateway\n[\s\S]*\nthis gateway only: the store is out of reach$/,
  )
  t.match(text({ told: { ...ANSWER, missed: 12 } }), / 3 gateways · 12 not counted\n/)
  t.match(text({ problem: 'no gateway answers' }), / 45 s until \d\d:\d\d:45 [\s\S]*\nno gateway answers$/)
})

t.test('keys are read one by one, also out of escape sequences', async (t) => {
  t.strictSame(keysOf('lq'), ['l', 'q'])
  t.strictSame(keysOf('\u001b[A\u001bOB\u001b[6~n\u001b[1;5C\u001b[200~'), ['up', 'down', 'page_down', 'n'])
})

/** Starts top on a terminal of its own, with a gateway that answers with `answer`. */
function startWatch(t: Test, answer: { now: TopAnswer | Error }) {
  const stdin = Object.assign(new PassThrough(), {
    raw: [] as boolean[],
    setRawMode(on: boolean) {
      this.raw.push(on)
    },
  })
  const stdout = Object.assign(new PassThrough(), { columns: 80, rows: 7, isTTY: false })
  let written = ''
  let changed = () => {}
  stdout.setEncoding('utf8').on('data', (data: string) => {
    written += data
    changed()
  })
  const asked: string[] = []
  const control: Control = {
    services: async () => ['payments', 'marketing'],
    async call<T>(_: string, path: string) {
      asked.push(path)
      if (answer.now instanceof Error) throw answer.now
      return answer.now as T
    },
    close: async () => {},
  }
  const what = { by: 'limited', service: undefined, tier: undefined } as const
  const ended = watchTop({
    control,
    what,
    intervalMs: 5,
    stdin: stdin as unknown as ReadStream,
    stdout: stdout as unknown as WriteStream,
    env: {},
  })
  t.teardown(() => stdin.write('q'))
  return {
    stdin,
    stdout,
    asked,
    ended,
    written: () => written,
    /** Resolves when a frame from now on matches. */
    shows(pattern: RegExp) {
      written = ''
      return new Promise<void>((resolve) => {
        changed = () => {
          if (pattern.test(written)) resolve()
        }
      })
    },
  }
}

t.test('the live table fills the screen, follows the keys, and restores the screen', async (t) => {
  const answer: { now: TopAnswer | Error } = { now: ANSWER }
  const { stdin, stdout, asked, ended, shows, written } = startWatch(t, answer)
  await shows(/acme[\s\S]*q quit/)
  t.strictSame(stdin.raw, [true])
  const press = async (key: string, pattern: RegExp) => {
    const shown = shows(pattern)
    stdin.write(key)
    await shown
  }
  await press('c', /costing most/)
  await press('\u001b[C', /costing most · payments/)
  await press('\u001b[D\u001b[D', /costing most · marketing/)
  t.match(asked.at(-1), '/top?by=cost&n=100&service=marketing')
  await press('\u001b[6~', /xxxx/)

  answer.now = new Refused('no gateway answers')
  await shows(/ until [\s\S]*no gateway answers/)
  answer.now = { ...ANSWER, rows: [] }
  await shows(/No quota was used/)
  stdout.columns = 30
  const narrow = shows(/costing most · marketing · la…/)
  stdout.emit('resize')
  await narrow

  stdin.write('q')
  t.equal(await ended, 0)
  t.strictSame(stdin.raw, [true, false])
  t.match(written(), /\u001b\[\?25h\u001b\[\?1049l$/)
  const before = asked.length
  await new Promise((resolve) => setImmediate(resolve))
  t.equal(asked.length, before, 'nothing is asked any more')
})

t.test('top ends when its terminal goes away, and when the gateway refuses the first question', async (t) => {
  const { stdin, ended, shows } = startWatch(t, { now: ANSWER })
  await shows(/acme/)
  stdin.end()
  t.equal(await ended, 129)
  const refused = startWatch(t, { now: new Refused('No service "x".') })
  await t.rejects(refused.ended, { message: 'No service "x".' })
  t.strictSame(refused.stdin.raw, [], 'before it took the screen')
})

t.test(
  'tidegate top --once shows the answer of a gateway, found by its address or by the store',
  { skip: !hasRedisServer },
  async (t) => {
    const redis = await startRedis(t)
    const backend = await startBackend(t)
    const port = await freePort()
    const yaml = (admin: number) => `
listen: 127.0.0.1:0
admin: { listen: "127.0.0.1:${admin}", token: a-token-for-operators }
store: { redis: "${redis.url}", timeout: 2s }
tiers: [free]
consumers: [{ header: { name: x-user-id, from: anyone } }]
services: { api: { upstreams: [${backend.origin}], limits: { free: 2/day } } }
routes: [{ path: /*, service: api }]
log: { access: off }
`
    const gateway = await startProcess(t, yaml(port))
    await storeUp(gateway)
    for (let i = 0; i < 5; i++) {
      const { body } = await request(gateway.address, { headers: { 'x-user-id': 'eve' } })
      await body.dump()
    }
    const there = await tidegate(['top', '--config', gateway.configFile])
    t.match(
      there.stdout,
      /^limited most · all services · last \d+ s · 1 gateway\n\nconsumer +service .*\neve +api +free +3 .*\n$/,
    )
    t.match([there.code, there.stderr], [0, ''])

    // Only by its address: the file may have changed, and the environment may lack what it needs.
    const named = await tidegate(['top', '--once', '--admin', `127.0.0.1:${port}`], {
      env: { TIDEGATE_ADMIN_TOKEN: 'a-token-for-operators' },
    })
    t.match(named, { code: 0, stdout: /^limited most · .*\neve +api +free +3 .*\n$/s, stderr: '' })
    t.strictSame(await tidegate(['top', '--once', '--admin', `127.0.0.1:${port}`]), {
      code: 1,
      stdout: '',
      stderr: `tidegate top: the gateway at 127.0.0.1:${port} requires a token: set TIDEGATE_ADMIN_TOKEN to yours\n`,
    })

    const elsewhere = `${t.testdir({ 'tidegate.yaml': yaml(await freePort()) })}/tidegate.yaml`
    const told = await tidegate(['top', '--by', 'cost', '--json', '--config', elsewhere])
    t.match(JSON.parse(told.stdout), {
      by: 'cost',
      nodes: { answered: 1 },
      rows: [{ consumer: 'eve', count: 2 }],
    })
    t.strictSame(await tidegate(['top', '--service', 'ap', '--config', gateway.configFile]), {
      code: 1,
      stdout: '',
      stderr: 'tidegate top: No service "ap"; the services are api.\n',
    })
  },
)

t.test('wrong use is refused before any gateway is asked', async (t) => {
  for (const [args, message] of [
    [['--by', 'limitd'], '--by is limited, near, cost, share, not limitd, did you mean limited?'],
    [['--interval', '10ms'], '--interval needs a time, 500ms to 1h, such as 2s, not 10ms'],
    [['--interval', 'soon'], '--interval needs a time, 500ms to 1h, such as 2s, not soon'],
    [['--admin', 'web-1'], '--admin needs HOST:PORT, such as 127.0.0.1:8081, not web-1'],
    [['--admin', '127.0.0.1:1', '--config', 'a.yaml'], '--admin and --config exclude each other'],
  ] as const) {
    const stderr = `tidegate top: ${message}; see: tidegate top --help\n`
    t.strictSame(await tidegate(['top', ...args]), { code: 2, stdout: '', stderr })
  }
})
