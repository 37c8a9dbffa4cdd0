import t from 'tap'
import { createDrained } from '../../src/workers/drained.js'

t.test('later workers learn which upstreams are drained, until they are restored', async (t) => {
  const drained = createDrained()
  drained.set('api', 'http://a', 'drained')
  drained.set('api', 'http://a', 'drained')
  drained.set('other', 'http://a', 'drained')
  t.strictSame(drained.all(), [
    ['api', 'http://a'],
    ['other', 'http://a'],
  ])
  drained.set('api', 'http://a', 'serving')
  t.strictSame(drained.all(), [['other', 'http://a']])
})
