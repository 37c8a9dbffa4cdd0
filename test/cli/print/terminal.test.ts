import t from 'tap'
import { didYouMean } from '../../../src/cli/command.js'
import { nodeWarning } from '../../../src/cli/node-version.js'
import {
  counted,
  details,
  firstCut,
  listing,
  oneLine,
  painter,
  printable,
  remarked,
  table,
  wrapped,
} from '../../../src/cli/print/terminal.js'

t.test('colour is for terminals that did not refuse it', async (t) => {
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

t.test('control characters are escaped, and oneLine escapes line breaks, too', async (t) => {
  t.equal(printable('a\u001b[2J\u009b\u007f\r\nb'), `${String.raw`a\u001b[2J\u009b\u007f\u000d`}\nb`)
  t.equal(printable('\u061c\u200e\u200f\u2028\u202e\u2066'), String.raw`\u061c\u200e\u200f\u2028\u202e\u2066`)
  t.equal(oneLine('a\nb\tc'), String.raw`a\nb\u0009c`)
  t.equal(table([['a\nb', 'c']]), String.raw`a\nb  c`)
})

t.test('a record is one line if the terminal is wide enough, and several lines if not', async (t) => {
  const head = ['id', 'tenant', 'reason']
  const rows = [
    ['ann', '', 'ticket 4711'],
    ['bob\u001b[2J', '', ''],
  ]
  const wide = 'id            reason\nann           ticket 4711\nbob\\u001b[2J'
  t.equal(listing(head, rows, undefined), wide, 'a file has no width')
  t.equal(listing(head, rows, 25), wide)
  t.equal(listing(head, rows, 24), 'id      ann\nreason  ticket 4711\n\nid  bob\\u001b[2J')
  t.equal(listing(head, rows, 0), wide, 'a terminal that does not know its width')
})

t.test('a sentence that is too wide for the terminal is broken between words', async (t) => {
  const text = 'Denied: it can pass 0.8 s later.'
  t.equal(wrapped(text, 0, undefined), text, 'a file has no width')
  t.equal(wrapped(text, 0, 32), text)
  t.equal(wrapped(text, 0, 22), 'Denied: it can pass\n0.8 s later.', 'a number stays with its unit')
  t.equal(wrapped('an-id-to-be-copied is here', 2, 10), 'an-id-to-be-copied\n  is here', 'no word is broken')
  t.equal(wrapped('時間 時間 時間', 0, 9), '時間 時間\n時間', 'a Chinese sign is two columns wide')
})

t.test('a long detail is continued below itself', async (t) => {
  const rows = [
    ['why', 'checks fail: status 503'],
    ['state', 'unhealthy'],
  ]
  t.equal(details(rows, undefined), '  why    checks fail: status 503\n  state  unhealthy')
  t.equal(details(rows, 25), '  why    checks fail:\n         status 503\n  state  unhealthy')
  t.equal(details([['consumer', 'x'.repeat(30)]], 20), `  consumer  ${'x'.repeat(30)}`)
})

t.test('a remark that does not fit its line of figures is put below it', async (t) => {
  const head = ['limit', 'used', 'left', '']
  const rows = [
    ['second', '5/5', '', 'denied it, and is waited for longest'],
    ['minute', '9/100', '', ''],
  ]
  t.equal(
    remarked(head, rows, undefined),
    '  limit   used\n  second  5/5    denied it, and is waited for longest\n  minute  9/100',
  )
  t.equal(
    remarked(head, rows, 30),
    '  limit   used\n  second  5/5\n    denied it, and is waited\n    for longest\n  minute  9/100',
  )
  t.equal(
    remarked(head, rows.slice(1), 14),
    '  limit  minute\n  used   9/100',
    'too narrow for the figures themselves',
  )
})

t.test('one long id does not move the figures of others', async (t) => {
  const rows = [
    ['consumer', 'denied'],
    ['x'.repeat(100), '12'],
  ]
  t.strictSame(firstCut(rows, 2, undefined), rows)
  t.strictSame(firstCut(rows, 2, 30), [rows[0], [`${'x'.repeat(19)}…`, '12']])
  t.strictSame(
    firstCut(rows, 2, 5),
    [rows[0], [`${'x'.repeat(7)}…`, '12']],
    'something of it is always there',
  )
})

t.test('counted uses the singular for one', async (t) => {
  t.same(
    [0, 1, 2].map((count) => counted(count, 'tier')),
    ['0 tiers', '1 tier', '2 tiers'],
  )
})

t.test('didYouMean recognizes a swapped or missing letter, and no other word', async (t) => {
  const names = ['start', 'check', 'usage', 'tier']
  t.equal(didYouMean('strat', names), ', did you mean start?')
  t.equal(didYouMean('chek', names), ', did you mean check?')
  t.equal(didYouMean('use', names, '--'), ', did you mean --usage?')
  t.equal(didYouMean('frobnicate', names), '')
  t.equal(didYouMean('x', names), '')
  t.equal(didYouMean('x', []), '')
})

t.test('nodeWarning names a Node without security fixes, or with known holes', async (t) => {
  t.match(nodeWarning('20.20.2'), /^Node 20\.20\.2 gets no security fixes; run Tidegate on Node 22\.23\.2, /)
  t.match(nodeWarning('23.11.0'), /no security fixes/)
  t.match(nodeWarning('22.23.1'), /has known security holes; update it to 22\.23\.2 or later/)
  t.equal(nodeWarning('22.23.2'), undefined)
  t.equal(nodeWarning('24.19.0'), undefined)
  t.match(nodeWarning('26.4.9'), /update it to 26\.5\.1/)
  t.equal(nodeWarning('28.0.0'), undefined)
})
