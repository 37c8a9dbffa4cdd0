import fc from 'fast-check'
import t from 'tap'
import { charCodeAt } from '../../src/net/char-code-at.js'

t.test('it reads the same units as the method', async (t) => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', minLength: 1 }), (text) => {
      const units = Array.from({ length: text.length }, (_, i) => charCodeAt(text, i))
      t.same(
        units,
        units.map((_, i) => text.charCodeAt(i)),
      )
    }),
  )
})
