import t from 'tap'
import { nearest } from '../../../src/config/values/nearest-name.js'

t.test('a typing error is recognized, another word is not', async (t) => {
  const keys = ['tiers', 'log', 'listen', 'strip_prefix']
  for (const [word, meant] of [
    ['tires', 'tiers'],
    ['Tiers', 'tiers'],
    ['logs', 'log'],
    ['lgo', 'log'],
    ['strip_perfix', 'strip_prefix'],
  ] as const)
    t.equal(nearest(word, keys), meant)
  for (const word of ['foo', 'frobnicate', 'x', '']) t.equal(nearest(word, keys), undefined, word)
  t.equal(nearest('log', []), undefined)
})
