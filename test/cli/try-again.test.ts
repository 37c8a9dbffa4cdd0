import t from 'tap'
import { Refused, Unavailable } from '../../src/cli/command.js'
import { tryAgain } from '../../src/cli/try-again.js'

t.test('work that may pass is tried again after each pause, other errors are not', async (t) => {
  const failing = (times: number, error: Error) => {
    let calls = 0
    const work = async () => {
      if (++calls <= times) throw error
      return calls
    }
    return work
  }
  const told: string[] = []
  const tell = ({ message }: Error, ms: number) => void told.push(`${message} ${ms}`)
  t.equal(await tryAgain(failing(2, new Unavailable('away')), tell, [1, 2]), 3)
  t.same(told, ['away 1', 'away 2'])
  const away = new Unavailable('away')
  await t.rejects(tryAgain(failing(3, away), tell, [1, 2]), away)
  told.length = 0
  await t.rejects(tryAgain(failing(1, new Refused('wrong')), tell, [1]), { message: 'wrong' })
  t.same(told, [])
})
