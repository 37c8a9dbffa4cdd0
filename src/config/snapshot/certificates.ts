import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { createSecureContext } from 'node:tls'
import type { TlsSettings } from '../schema/listener.js'

/** Loads and checks certificate files, for `tidegate check` and for the gateway. */

export interface LoadedCertificate {
  /** File name as in the configuration. */
  readonly file: string
  readonly cert: Buffer
  readonly key: Buffer
  /** DNS names, in lower case. A leading `*.` stands for one label. */
  readonly names: readonly string[]
  /** Start of validity, in unix ms. */
  readonly notBefore: number
  readonly notAfter: number
}

export interface LoadedTls {
  readonly certificates: readonly LoadedCertificate[]
  readonly clientCa: Buffer | undefined
}

/** Reports what is wrong and what to do, at a path below `server.tls`. */
export type ReportFile = (path: readonly (string | number)[], message: string) => void

type Settings = {
  readonly certificates: readonly TlsSettings['certificates'][number][]
  readonly client_ca?: string | undefined
}

/** Maximum file size, in bytes: larger than any chain. A device or log named by mistake is not read. */
const MAX_BYTES = 1024 * 1024

/** Reads and checks every file. Returns undefined if any is invalid, after all errors were reported. */
export async function loadCertificates(settings: Settings, say: ReportFile): Promise<LoadedTls | undefined> {
  let failed = false
  /** Returns what the check of a file returns; undefined after an error was reported. */
  async function checked<T>(path: readonly (string | number)[], check: () => T | Promise<T>) {
    try {
      return await check()
    } catch (error) {
      if (!(error instanceof Unusable)) throw error
      failed = true
      say(path, error.message)
      return undefined
    }
  }
  const certificates = await Promise.all(
    settings.certificates.map(async (files, i) => {
      const at = (key: 'cert' | 'key') => ['certificates', i, key]
      const [cert, key] = await Promise.all([
        checked(at('cert'), () => readCertificate(files.cert)),
        checked(at('key'), () => readKey(files.key)),
      ])
      if (cert === undefined || key === undefined) return undefined
      return await checked(at(cert.parsed.checkPrivateKey(key.parsed) ? 'cert' : 'key'), () =>
        pairOf(files, cert, key),
      )
    }),
  )
  const { client_ca: ca } = settings
  const clientCa = ca === undefined ? undefined : await checked(['client_ca'], () => readCertificate(ca))
  return failed ? undefined : { certificates: certificates.map((one) => one!), clientCa: clientCa?.pem }
}

/** How long before its end a certificate causes a warning, in ms. */
export const EXPIRY_WARNING_MS = 14 * 86_400_000

/** Reports certificates that no client accepts at the time `now`. */
export function checkDates(certificates: readonly LoadedCertificate[], now: number, say: ReportFile): void {
  for (const [i, { file, notBefore, notAfter }] of certificates.entries()) {
    const path = ['certificates', i, 'cert']
    if (notAfter <= now)
      say(path, `${file} expired on ${new Date(notAfter).toISOString()}; renew the certificate`)
    else if (notBefore > now)
      say(path, `${file} is not valid before ${new Date(notBefore).toISOString()}; check the clock`)
  }
}

/** Says why a file cannot be used, and what to do. */
class Unusable extends Error {}

interface Parsed<T> {
  readonly pem: Buffer
  readonly parsed: T
}

/** Checks that a certificate and a key belong together, and that OpenSSL accepts them. */
function pairOf(
  files: Settings['certificates'][number],
  { pem: cert, parsed }: Parsed<X509Certificate>,
  { pem: key, parsed: secret }: Parsed<KeyObject>,
): LoadedCertificate {
  if (!parsed.checkPrivateKey(secret)) {
    const fix = 'give the matching key; a file with a chain must begin with the own certificate'
    throw new Unusable(`${files.key} is not the key of ${files.cert}; ${fix}`)
  }
  try {
    createSecureContext({ cert, key })
  } catch (error) {
    const why = (error as Error).message.replace(/^error:[0-9A-F]+:/, '')
    throw new Unusable(`OpenSSL refuses ${files.cert} (${why}); get a certificate that it accepts`)
  }
  const names = alternativeNames(parsed.subjectAltName).filter(([kind]) => kind === 'DNS')
  return {
    file: files.cert,
    cert,
    key,
    names: names.map(([, name]) => name.toLowerCase()),
    notBefore: Date.parse(parsed.validFrom),
    notAfter: Date.parse(parsed.validTo),
  }
}

async function readCertificate(file: string): Promise<Parsed<X509Certificate>> {
  const pem = await readPem(file)
  try {
    if (pem.includes('-----BEGIN ')) return { pem, parsed: new X509Certificate(pem) }
  } catch {
    // Reported below.
  }
  throw new Unusable(`${file} contains no certificate in PEM; it begins with -----BEGIN CERTIFICATE-----`)
}

async function readKey(file: string): Promise<Parsed<KeyObject>> {
  const pem = await readPem(file)
  try {
    return { pem, parsed: createPrivateKey(pem) }
  } catch {
    if (pem.includes('ENCRYPTED')) throw new Unusable(`${file} is encrypted; give a key without a passphrase`)
    throw new Unusable(`${file} contains no private key in PEM; it begins with -----BEGIN PRIVATE KEY-----`)
  }
}

async function readPem(file: string): Promise<Buffer> {
  try {
    const stats = await stat(file)
    if (!stats.isFile()) throw Object.assign(new Error(), { code: 'EISDIR' })
    if (stats.size > MAX_BYTES) throw Object.assign(new Error(), { code: 'EFBIG' })
    return await readFile(file)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown error'
    throw new Unusable(`${file} ${UNREADABLE[code] ?? `cannot be read (${code}); make it readable`}`)
  }
}

const UNREADABLE: Readonly<Record<string, string>> = {
  ENOENT: 'does not exist; put the file there, or name another',
  EACCES: 'is not readable for this user; grant the right to read it',
  EISDIR: 'is not a file; name the file itself',
  EFBIG: 'is larger than 1 MiB; name the file with the certificate or key alone',
}

const QUOTED = /^"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/

/**
 * Parses subject alternative names as Node writes them, such as `DNS:a.example, URI:"x, y"`. A name with a comma or a
 * quote is a JSON string, so that it cannot smuggle in a second name (CVE-2021-44532).
 */
export function alternativeNames(
  text: string | undefined,
): readonly (readonly [kind: string, name: string])[] {
  const names: (readonly [string, string])[] = []
  let token = ''
  let at = 0
  const end = () => {
    const colon = token.indexOf(':')
    if (colon > 0) names.push([token.slice(0, colon), token.slice(colon + 1)])
    token = ''
  }
  while (text !== undefined && at < text.length) {
    const separator = text.indexOf(', ', at)
    const quote = text.indexOf('"', at)
    if (quote >= 0 && (separator < 0 || quote < separator)) {
      const string = QUOTED.exec(text.slice(quote))?.[0]
      // Node did not write this text. The rest of it cannot be parsed.
      if (string === undefined) return names
      token += text.slice(at, quote) + JSON.parse(string)
      at = quote + string.length
    } else if (separator >= 0) {
      token += text.slice(at, separator)
      at = separator + 2
      end()
    } else {
      token += text.slice(at)
      at = text.length
    }
  }
  end()
  return names
}
