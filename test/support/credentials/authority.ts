import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

interface Cleanup {
  teardown(fn: () => unknown): unknown
}

/** Paths of PEM files. */
export interface Issued {
  readonly cert: string
  readonly key: string
}

/** A CA of our own. */
export interface Authority {
  /** Path of a PEM file. */
  readonly ca: string
  /** @param names in the form of `subjectAltName`: `DNS:a.internal,IP:127.0.0.1` */
  issue(subject: string, names?: string, days?: number): Issued
}

const EC = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']

export function createAuthority(t: Cleanup): Authority {
  const folder = mkdtempSync(join(tmpdir(), 'tidegate-ca-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: folder, stdio: 'ignore' })
  openssl(...['req', '-x509', ...EC, '-keyout', 'ca.key', '-out', 'ca.pem', '-days', '2', '-subj', '/CN=CA'])
  let serial = 0
  return {
    ca: join(folder, 'ca.pem'),
    issue(subject, names, days = 2) {
      const name = `${++serial}`
      const alternative = names === undefined ? [] : ['-addext', `subjectAltName=${names}`]
      openssl(
        ...['req', ...EC, '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${subject}`],
        ...alternative,
      )
      openssl(
        ...['x509', '-req', '-in', `${name}.csr`, '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial'],
        ...['-out', `${name}.pem`, '-days', String(days), '-copy_extensions', 'copy'],
      )
      return { cert: join(folder, `${name}.pem`), key: join(folder, `${name}.key`) }
    },
  }
}

export function pairOf({ cert, key }: Issued): { cert: string; key: string } {
  return { cert: readFileSync(cert, 'utf8'), key: readFileSync(key, 'utf8') }
}
