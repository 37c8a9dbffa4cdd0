import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

interface Cleanup {
  teardown(fn: () => unknown): unknown
}

/** Paths of PEM files. */
export interface Certificates {
  readonly ca: string
  readonly cert: string
  readonly key: string
}

/** A CA of our own, and its certificate for `redis.internal` alone, good for servers and clients. */
export function makeCertificates(t: Cleanup): Certificates {
  const folder = mkdtempSync(join(tmpdir(), 'tidegate-tls-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: folder, stdio: 'ignore' })
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  openssl('req', '-x509', ...key, '-keyout', 'ca.key', '-out', 'ca.pem', '-days', '2', '-subj', '/CN=Test CA')
  openssl(
    'req',
    ...key,
    '-keyout',
    'redis.key',
    '-out',
    'redis.csr',
    '-subj',
    '/CN=redis.internal',
    '-addext',
    'subjectAltName=DNS:redis.internal',
  )
  openssl(
    'x509',
    '-req',
    '-in',
    'redis.csr',
    '-CA',
    'ca.pem',
    '-CAkey',
    'ca.key',
    '-CAcreateserial',
    '-out',
    'redis.pem',
    '-days',
    '2',
    '-copy_extensions',
    'copy',
  )
  const file = (name: string) => join(folder, name)
  return { ca: file('ca.pem'), cert: file('redis.pem'), key: file('redis.key') }
}
