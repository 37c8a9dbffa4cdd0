// What a token (JWT) costs a request, in µs of the process's CPU: node bench/micro/jwt.mjs, after npm run build.
// Medians of interleaved rounds: one that was found good before, and one that nobody has seen, by algorithm.
import { exportSPKI, generateKeyPair, SignJWT } from 'jose'
import { compileTokenIssuer } from '../../dist/config/snapshot/token-issuers.js'
import { createJwtVerifier } from '../../dist/credentials/jwt.js'

const ROUNDS = 9
const NEW = 200
const KNOWN = 200_000
const ISSUER = 'https://id.example.com'

async function prepare(alg) {
  const { privateKey, publicKey } = await generateKeyPair(alg)
  const issuer = compileTokenIssuer({
    issuer: ISSUER,
    audience: ['api'],
    refresh: 600_000,
    id: 'sub',
    scopes: 'scope',
    leeway: 60_000,
    public_key: [{ file: 'inline', text: await exportSPKI(publicKey) }],
  })
  const verifier = createJwtVerifier([issuer], {
    read: ({ sub }) => ({ sub }),
    log: { info() {}, warn() {} },
  })
  const sign = (sub) =>
    new SignJWT({ sub, scope: 'orders:read' })
      .setProtectedHeader({ alg })
      .setIssuer(ISSUER)
      .setAudience('api')
      .setIssuedAt()
      .setExpirationTime('5m')
      .sign(privateKey)
  return { verifier, sign }
}

async function cpuMicros(count, work) {
  const before = process.cpuUsage()
  await work()
  const { user, system } = process.cpuUsage(before)
  return (user + system) / count
}

let made = 0
const rows = new Map()
const note = (name, micros) => rows.set(name, [...(rows.get(name) ?? []), micros])
const algorithms = await Promise.all(
  ['RS256', 'ES256', 'EdDSA'].map(async (alg) => [alg, await prepare(alg)]),
)

function good(verdict) {
  if ('rejected' in verdict) throw new Error(verdict.why)
}

for (let round = 0; round < ROUNDS; round++) {
  for (const [alg, { verifier, sign }] of algorithms) {
    const tokens = await Promise.all(Array.from({ length: NEW }, (_, i) => sign(`${round}-${i}`)))
    note(
      `${alg}, new`,
      await cpuMicros(NEW, async () => {
        for (const token of tokens) good(await verifier.verify(token))
      }),
    )
    // A new text each time, as a request brings it: V8 does not know its hash yet.
    const bytes = tokens.map((token) => Buffer.from(token))
    note(
      `${alg}, known (${tokens[0].length} characters), and its text made`,
      await cpuMicros(KNOWN, () => {
        for (let i = 0; i < KNOWN; i++) good(verifier.verify(bytes[i % NEW].latin1Slice()))
      }),
    )
    note(
      `${alg}, its text alone`,
      await cpuMicros(KNOWN, () => {
        for (let i = 0; i < KNOWN; i++) made += bytes[i % NEW].latin1Slice().length
      }),
    )
  }
}
for (const [name, micros] of [...rows].sort(([a], [b]) => (a < b ? -1 : 1))) {
  const sorted = micros.sort((a, b) => a - b)
  console.log(`${sorted[ROUNDS >> 1].toFixed(2).padStart(8)} µs  ${name}`)
}
for (const [, { verifier }] of algorithms) verifier.close()
if (made === 0) throw new Error('nothing was made')
