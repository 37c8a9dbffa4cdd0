import fc from 'fast-check'
import t from 'tap'
import { createShares, createTurns, give, quarter, take } from '../src/shares.js'

t.test(
  'one caller holds its share at most, all together the total, and returned places are free',
  async (t) => {
    const told: string[] = []
    const shares = createShares({
      onRefused: ({ name, service }, caller) => told.push(`${name} ${service} ${caller}`),
    })
    const share = shares.open('tunnels', 8, undefined, 'chat')
    t.equal(share.most, 2)
    t.strictSame([take(share, 'a'), take(share, 'a'), take(share, 'a')], [undefined, undefined, 'caller'])
    t.strictSame(told, ['tunnels chat a'])
    t.strictSame(
      [take(share, 'b'), take(share, undefined, 5), take(share, 'b')],
      [undefined, undefined, 'all'],
    )
    t.equal(take(share, undefined), 'all', 'the total holds for those that are exempt, too')
    give(share, 'a')
    t.equal(take(share, 'b'), undefined)
    t.strictSame(share.refused, { caller: 1, all: 2 })
    t.strictSame(
      [...share.holders],
      [
        ['a', 1],
        ['b', 2],
      ],
    )
  },
)

t.test('a share goes on when its bounds change', async (t) => {
  const shares = createShares()
  const share = shares.open('tunnels', 8, 4, 'chat')
  take(share, 'a', 4)
  t.equal(shares.open('tunnels', 2, 1, 'chat'), share)
  t.equal(take(share, 'b'), 'all')
  give(share, 'a', 3)
  t.equal(take(share, 'b'), undefined)
  t.not(shares.open('tunnels', 2, 1, 'other'), share)
  t.equal([...shares.all()].length, 2)
})

t.test(
  'in any sequence the counts equal what is held, and callers without places are forgotten',
  async () => {
    const caller = fc.constantFrom('a', 'b', 'c', undefined)
    fc.assert(
      fc.property(fc.array(fc.tuple(caller, fc.integer({ min: 1, max: 3 }), fc.boolean())), (steps) => {
        const share = createShares().open('verifications', 12, quarter(12))
        const held: [string | undefined, number][] = []
        for (const [who, amount, gives] of steps) {
          if (gives) {
            const one = held.pop()
            if (one !== undefined) give(share, ...one)
          } else if (take(share, who, amount) === undefined) held.push([who, amount])
          const of = (name: string | undefined) =>
            held.reduce((sum, [other, amount]) => sum + (other === name ? amount : 0), 0)
          const all = ['a', 'b', 'c', undefined].reduce((sum, name) => sum + of(name), 0)
          const names = ['a', 'b', 'c'].filter((name) => of(name) > 0)
          if (share.held !== all || all > 12 || share.holders.size !== names.length) return false
          if (names.some((name) => share.holders.get(name) !== of(name) || of(name) > 3)) return false
        }
        return true
      }),
    )
  },
)

t.test(
  'entries that have given up take no turn and no memory, however many a caller leaves behind',
  async (t) => {
    interface Entry {
      over: boolean
    }
    let looks = 0
    const turns = createTurns<Entry>(({ over }) => {
      looks++
      return over
    })
    const rounds = 200
    for (let round = 0; round < rounds; round++) {
      for (let i = 0; i < 100; i++) turns.push('flood', { over: true })
      const last: Entry = { over: false }
      turns.push('flood', last)
      const other: Entry = { over: false }
      turns.push('other', other)
      t.same(new Set([turns.next(), turns.next()]), new Set([last, other]))
    }
    t.equal(turns.next(), undefined)
    t.equal(looks, rounds * 102, 'each is looked at once')
  },
)
