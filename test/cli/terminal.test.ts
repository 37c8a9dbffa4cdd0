import t from 'tap'
import { nearest } from '../../src/cli/command.js'
import { nodeWarning } from '../../src/cli/node-version.js'
import { counted, listing, oneLine, painter, printable, table } from '../../src/cli/terminal.js'

t.test('colour is for terminals, and for those who did not refuse it', async (t) => {
  t.equal(painter({ isTTY: true }, {})('bold', 'x'), '\u001b[1mx\u001b[22m')
  t.equal(painter({ isTTY: false }, {})('bold', 'x'), 'x')
  t.equal(painter({ isTTY: true }, { NO_COLOR: '1' })('bold', 'x'), 'x')
  t.equal(painter({ isTTY: true }, { NO_COLOR: '' })('bold', 'x'), '\u001b[1mx\u001b[22m')
  t.equal(painter({ isTTY: true }, { TERM: 'dumb' })('bold', 'x'), 'x')
})

t.test('a table is aligned and its lines end without spaces', async (t) => {
  t.equal(table([['a', 'bb'], ['ccc', '', 'd'], ['e']], 1), ' a    bb\n ccc      d\n e')
  t.equal(
    table([
      ['a', '', 'b'],
      ['c', '', 'd'],
    ]),
    'a  b\nc  d',
    'a column of nothing takes no room',
  )
})

t.test('what steers a terminal is written out, and what is to be one line is one', async (t) => {
  t.equal(printable('a\u001b[2J\u009b\u007f\r\nb'), `${String.raw`a\u001b[2J\u009b\u007f\u000d`}\nb`)
  t.equal(printable('\u061c\u200e\u200f\u2028\u202e\u2066'), String.raw`\u061c\u200e\u200f\u2028\u202e\u2066`)
  t.equal(oneLine('a\nb\tc'), String.raw`a\nb\u0009c`)
  t.equal(table([['a\nb', 'c']]), String.raw`a\nb  c`)
})

t.test(
  'a list is a line each where the terminal has room, and a few lines each where it has not',
  async (t) => {
    const head = ['id', 'tenant', 'reason']
    const rows = [
      ['ann', '', 'ticket 4711'],
      ['bob\u001b[2J', '', ''],
    ]
    const wide = 'id            reason\nann           ticket 4711\nbob\\u001b[2J'
    t.equal(listing(head, rows, undefined), wide, 'a file has no width')
    t.equal(listing(head, rows, 25), wide)
    t.equal(listing(head, rows, 24), 'id      ann\nreason  ticket 4711\n\nid  bob\\u001b[2J')
    t.equal(listing(head, rows, 0), wide, 'of a terminal that does not know its width')
  },
)

t.test('one is not many', async (t) => {
  t.same(
    [0, 1, 2].map((count) => counted(count, 'tier')),
    ['0 tiers', '1 tier', '2 tiers'],
  )
})

t.test('a swapped or missing letter is recognised, another word is not', async (t) => {
  const names = ['start', 'check', 'usage', 'tier']
  t.equal(nearest('strat', names), 'start')
  t.equal(nearest('chek', names), 'check')
  t.equal(nearest('use', names), 'usage')
  t.equal(nearest('frobnicate', names), undefined)
  t.equal(nearest('x', names), undefined)
  t.equal(nearest('x', []), undefined)
})

t.test('a Node without fixes, or with known holes, is named', async (t) => {
  t.match(nodeWarning('20.20.2'), /^Node 20\.20\.2 gets no security fixes; run Tidegate on Node 22\.23\.2, /)
  t.match(nodeWarning('23.11.0'), /no security fixes/)
  t.match(nodeWarning('22.23.1'), /has known security holes; update it to 22\.23\.2 or later/)
  t.equal(nodeWarning('22.23.2'), undefined)
  t.equal(nodeWarning('24.19.0'), undefined)
  t.match(nodeWarning('26.4.9'), /update it to 26\.5\.1/)
  t.equal(nodeWarning('28.0.0'), undefined)
})
