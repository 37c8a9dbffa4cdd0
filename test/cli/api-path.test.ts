import t from 'tap'
import { apiPath, queryOf } from '../../src/cli/api-path.js'

t.test('a value stays one segment of a path, whatever is in it', async (t) => {
  t.equal(apiPath`/usage/${'pay/ments'}/${'../ann?x'}`, '/usage/pay%2Fments/..%2Fann%3Fx')
  t.equal(apiPath`/bans/${'203.0.113.0/24'}`, '/bans/203.0.113.0%2F24')
})

t.test('a query has the values that are given', async (t) => {
  t.equal(queryOf({ consumer: undefined }), '')
  t.equal(queryOf({ consumer: 'a&b', tenant: undefined, n: '5' }), '?consumer=a%26b&n=5')
})
