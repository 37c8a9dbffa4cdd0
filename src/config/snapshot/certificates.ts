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
export type SayOfFile = (path: readonly (string | number)[], message: string) => void

type Settings = {
  readonly certificates: readonly TlsSettings['certificates'][number][]
  readonly client_ca?: string | undefined
}

/** Maximum file size, in bytes: larger than any chain. A device or log named by mistake is not read. */
const MAX_BYTES = 1024 * 1024

/** Reads and checks every file. Returns undefined if any is invalid, after all errors were reported. */
export async function loadCertificates(settings: Settings, say: SayOfFile): Promise<LoadedTls | undefined> {
  let failed = false
  const fail: SayOfFile = (path, message) => {
    failed = true
    say(path, message)
  }
  const certificates = await Promise.all(
    settings.certificates.map((files, i) => loadCertificate(files, i, fail)),
  )
  const clientCa =
    settings.client_ca === undefined ? undefined : await loadCa(settings.client_ca, ['client_ca'], fail)
  return failed ? undefined : { certificates: certificates.map((one) => one!), clientCa }
}

/** How long before its end a certificate causes a warning, in ms. */
export const EXPIRY_WARNING_MS = 14 * 86_400_000

/** Reports certificates that no client accepts at the time `now`. */
export function checkDates(certificates: readonly LoadedCertificate[], now: number, say: SayOfFile): void {
  for (const [i, { file, notBefore, notAfter }] of certificates.entries()) {
    const path = ['certificates', i, 'cert']
    if (notAfter <= now)
      say(path, `${file} expired on ${new Date(notAfter).toISOString()}; renew the certificate`)
    else if (notBefore > now)
      say(path, `${file} is not valid before ${new Date(notBefore).toISOString()}; check the clock`)
  }
}

async function loadCertificate(
  files: Settings['certificates'][number],
  index: number,
  fail: SayOfFile,
): Promise<LoadedCertificate | undefined> {
  const at = (key: 'cert' | 'key') => ['certificates', index, key]
  const [cert, key] = await Promise.all([
    readPem(files.cert, at('cert'), fail),
    readPem(files.key, at('key'), fail),
  ])
  const parsed = cert === undefined ? undefined : parseCertificate(files.cert, cert, at('cert'), fail)
  const secret = key === undefined ? undefined : parseKey(files.key, key, at('key'), fail)
  if (cert === undefined || key === undefined || parsed === undefined || secret === undefined)
    return undefined
  if (!parsed.checkPrivateKey(secret)) {
    const fix = 'give the key that it was made for; a file with a chain begins with the own certificate'
    fail(at('key'), `${files.key} is not the key of ${files.cert}; ${fix}`)
    return undefined
  }
  try {
    createSecureContext({ cert, key })
  } catch (error) {
    const why = (error as Error).message.replace(/^error:[0-9A-F]+:/, '')
    fail(at('cert'), `${files.cert} cannot be served (${why}); have a certificate made that OpenSSL accepts`)
    return undefined
  }
  const names = alternativeNames(parsed.subjectAltName)
    .filter(([kind]) => kind === 'DNS')
    .map(([, name]) => name.toLowerCase())
  return {
    file: files.cert,
    cert,
    key,
    names,
    notBefore: Date.parse(parsed.validFrom),
    notAfter: Date.parse(parsed.validTo),
  }
}

async function loadCa(
  file: string,
  path: readonly (string | number)[],
  fail: SayOfFile,
): Promise<Buffer | undefined> {
  const pem = await readPem(file, path, fail)
  if (pem === undefined || parseCertificate(file, pem, path, fail) === undefined) return undefined
  return pem
}

function parseCertificate(
  file: string,
  pem: Buffer,
  path: readonly (string | number)[],
  fail: SayOfFile,
): X509Certificate | undefined {
  try {
    if (!pem.includes('-----BEGIN ')) throw new Error()
    return new X509Certificate(pem)
  } catch {
    fail(path, `${file} holds no certificate in PEM; it begins with -----BEGIN CERTIFICATE-----`)
    return undefined
  }
}

function parseKey(
  file: string,
  pem: Buffer,
  path: readonly (string | number)[],
  fail: SayOfFile,
): KeyObject | undefined {
  try {
    return createPrivateKey(pem)
  } catch {
    if (pem.includes('ENCRYPTED')) fail(path, `${file} is encrypted; give a key without a passphrase`)
    else fail(path, `${file} holds no private key in PEM; it begins with -----BEGIN PRIVATE KEY-----`)
    return undefined
  }
}

async function readPem(
  file: string,
  path: readonly (string | number)[],
  fail: SayOfFile,
): Promise<Buffer | undefined> {
  try {
    const { size, isFile } = await stat(file).then((stats) => ({ size: stats.size, isFile: stats.isFile() }))
    if (!isFile) throw Object.assign(new Error(), { code: 'EISDIR' })
    if (size > MAX_BYTES) throw Object.assign(new Error(), { code: 'EFBIG' })
    return await readFile(file)
  } catch (error) {
    fail(path, `${file} ${whyUnreadable((error as NodeJS.ErrnoException).code ?? 'unknown error')}`)
    return undefined
  }
}

function whyUnreadable(code: string): string {
  if (code === 'ENOENT') return 'does not exist; put the file there, or name another'
  if (code === 'EACCES') return 'may not be read by this user; give it the right to'
  if (code === 'EISDIR') return 'is not a file; name the file itself'
  if (code === 'EFBIG') return 'is larger than 1 MiB; name the file with the certificate or key alone'
  return `cannot be read (${code}); see to it that it can`
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
