import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { alternativeNames, checkDates, loadCertificates } from '../../../src/config/snapshot/certificates.js'
import { createAuthority } from '../../support/credentials/authority.js'

const authority = createAuthority(t)
const api = authority.issue('api', 'DNS:API.example,IP:127.0.0.1,DNS:*.apps.example')
const other = authority.issue('other')

async function messagesFor(settings: Parameters<typeof loadCertificates>[0]): Promise<string[]> {
  const messages: string[] = []
  const loaded = await loadCertificates(settings, (path, message) =>
    messages.push(`${path.join('.')}: ${message}`),
  )
  t.equal(loaded === undefined, messages.length > 0, 'nothing is given back that something is said of')
  return messages
}

t.test('a certificate is read with its DNS names and its end', async (t) => {
  const loaded = await loadCertificates({ certificates: [api], client_ca: authority.ca }, (_, message) =>
    t.fail(message),
  )
  t.same(loaded!.certificates[0]!.names, ['api.example', '*.apps.example'])
  t.equal(loaded!.certificates[0]!.file, api.cert)
  t.same(loaded!.clientCa, readFileSync(authority.ca))
  const left = loaded!.certificates[0]!.notAfter - Date.now()
  t.ok(left > 86_400_000 && left < 3 * 86_400_000)
})

t.test('all faults of the files are reported together, with what to do', async (t) => {
  const folder = t.testdir()
  const file = (name: string) => join(folder, name)
  mkdirSync(file('folder'))
  writeFileSync(file('text'), 'hello')
  writeFileSync(file('huge'), Buffer.alloc(1024 * 1024 + 1))
  writeFileSync(file('half'), readFileSync(api.cert).subarray(0, 100))
  execFileSync(
    'openssl',
    ['ec', '-aes128', '-passout', 'pass:secret', '-in', api.key, '-out', file('encrypted')],
    {
      stdio: 'ignore',
    },
  )
  copyFileSync(api.key, file('key'))
  const certificates = [
    { cert: file('none'), key: file('folder') },
    { cert: file('text'), key: file('huge') },
    { cert: file('half'), key: file('text') },
    { cert: api.cert, key: file('encrypted') },
    { cert: other.cert, key: file('key') },
    { cert: api.key, key: api.cert },
    { cert: '/dev/zero', key: api.key },
  ]
  const messages = await messagesFor({ certificates, client_ca: file('text') })
  t.same(messages.sort(), [
    `certificates.0.cert: ${file('none')} does not exist; put the file there, or name another`,
    `certificates.0.key: ${file('folder')} is not a file; name the file itself`,
    `certificates.1.cert: ${file('text')} contains no certificate in PEM; it begins with -----BEGIN CERTIFICATE-----`,
    `certificates.1.key: ${file('huge')} is larger than 1 MiB; name the file with the certificate or key alone`,
    `certificates.2.cert: ${file('half')} contains no certificate in PEM; it begins with -----BEGIN CERTIFICATE-----`,
    `certificates.2.key: ${file('text')} contains no private key in PEM; it begins with -----BEGIN PRIVATE KEY-----`,
    `certificates.3.key: ${file('encrypted')} is encrypted; give a key without a passphrase`,
    `certificates.4.key: ${file('key')} is not the key of ${other.cert}; give the matching key; a file with a chain must begin with the own certificate`,
    `certificates.5.cert: ${api.key} contains no certificate in PEM; it begins with -----BEGIN CERTIFICATE-----`,
    `certificates.5.key: ${api.cert} contains no private key in PEM; it begins with -----BEGIN PRIVATE KEY-----`,
    'certificates.6.cert: /dev/zero is not a file; name the file itself',
    `client_ca: ${file('text')} contains no certificate in PEM; it begins with -----BEGIN CERTIFICATE-----`,
  ])
})

t.test('a certificate outside its validity is reported, before and after', async (t) => {
  const { certificates } = (await loadCertificates({ certificates: [api] }, () => {}))!
  const { notBefore, notAfter } = certificates[0]!
  const said = (now: number) => {
    const messages: string[] = []
    checkDates(certificates, now, (_, message) => messages.push(message))
    return messages
  }
  t.same(said(notBefore), [])
  t.same(said(notAfter - 1), [])
  t.match(said(notAfter), [/ expired on \d{4}-.*; renew the certificate$/])
  t.match(said(notBefore - 1), [/ is not valid before \d{4}-.*; check the clock$/])
})

t.test('no name of a certificate is read as two', async (t) => {
  t.same(alternativeNames(undefined), [])
  t.same(alternativeNames('DNS:a.example, IP Address:127.0.0.1, URI:spiffe://a/b:c'), [
    ['DNS', 'a.example'],
    ['IP Address', '127.0.0.1'],
    ['URI', 'spiffe://a/b:c'],
  ])
  t.same(alternativeNames('URI:"http://x/, DNS:admin.example", DNS:b'), [
    ['URI', 'http://x/, DNS:admin.example'],
    ['DNS', 'b'],
  ])
  t.same(alternativeNames('URI:"a\\", DNS:admin", email:"x'), [['URI', 'a", DNS:admin']])
})
