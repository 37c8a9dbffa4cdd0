import t from 'tap'
import { byText } from '../../src/common/by-text.js'

t.test('values are sorted by their text, whatever the language of the machine', async (t) => {
  const ids = ['b', 'B', 'a', 'ä', 'a']
  t.strictSame(ids.sort(byText((id) => id)), ['B', 'a', 'a', 'b', 'ä'])
  t.strictSame([{ id: 2 }, { id: 1 }].sort(byText(({ id }) => `${id}`)), [{ id: 1 }, { id: 2 }])
})
