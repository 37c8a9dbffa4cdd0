import { constants } from 'node:crypto'
import type { Socket } from 'node:net'
import {
  createSecureContext,
  createServer,
  type SecureContext,
  type SecureContextOptions,
  type Server,
  type TLSSocket,
} from 'node:tls'
import { isDeepStrictEqual } from 'node:util'
import { signatureOf, watchFile } from '../../config/load/watch.js'
import type { Config } from '../../config/schema/schema.js'
import {
  checkDates,
  EXPIRY_WARNING_MS,
  type LoadedCertificate,
  type LoadedTls,
  loadCertificates,
} from '../../config/snapshot/certificates.js'
import { readClientCertificate, setSecured } from '../exchange/tls-info.js'
import type { TlsStep } from './listener.js'

export type TlsSettings = NonNullable<Config['server']['tls']>
export type TlsReload = 'applied' | 'rejected' | 'unchanged'

export interface TlsOptions {
  readonly settings: TlsSettings
  /** Key of the settings, for messages. Default: server.tls. */
  readonly path?: string
  /** Protocols offered by ALPN, the preferred one first. */
  readonly alpn: readonly string[]
  readonly log: {
    info(fields: object, message: string): void
    warn(fields: object, message: string): void
    error(fields: object, message: string): void
  }
  readonly onReload?: ((result: TlsReload) => void) | undefined
  /** Current time in Unix ms. */
  readonly now?: () => number
  /** Ms between two checks of the files when no change is reported. */
  readonly pollMs?: number
  /** Ms for which the files have to stay unchanged before they are read. */
  readonly stableMs?: number
}

export interface Tls extends TlsStep {
  /** Reads every file again. A bad file changes nothing. Open connections go on as they are. */
  reload(settings?: TlsSettings): Promise<TlsReload>
  /** Returns when the certificates in force expire, in Unix ms. */
  expiries(): readonly { readonly certificate: string; readonly notAfter: number }[]
  close(): void
}

const DAY_MS = 86_400_000

/** For TLS 1.2, only ciphers with forward secrecy and authenticated encryption, as in Mozilla's intermediate list. */
const CIPHERS = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
].join(':')

interface Handshake {
  readonly next: (secured: Socket) => void
  readonly failed: (why: string) => void
  /** Has the bare socket no longer watched: nothing of the handshake outlives it. */
  readonly unwatch: () => void
}

/**
 * Opens TLS to clients. Handshakes run in a server of `node:tls` that listens nowhere. Each reload makes another server,
 * and the old one finishes the handshakes that it began.
 *
 * @throws Error whose message says which file is bad and what to do
 */
export async function openTls(options: TlsOptions): Promise<Tls> {
  const { alpn, log, path = 'server.tls', onReload, now = Date.now, pollMs = 1_000, stableMs = 300 } = options
  let wanted = options.settings
  let watches: readonly { close(): void }[] = []
  let closed = false
  /**
   * Handshakes under way, keyed by the two ends of the connection: a `node:tls` server exposes nothing more of its raw
   * socket.
   */
  const handshakes = new Map<string, Handshake>()

  // Before the files are read: a change in between is then detected.
  await watch()
  const problems: string[] = []
  const first = await loadCertificates(wanted, (at, message) => problems.push(said(at, message)))
  if (first === undefined) {
    stopWatching()
    throw new Error(problems.join('\n'))
  }
  let served = wanted
  let loaded: LoadedTls = first
  let server = serve(served, loaded)
  lookAtDates()
  const daily = setInterval(lookAtDates, DAY_MS).unref()

  function serve(
    { min_version: minVersion, client_certificate: mode = 'required', ...rest }: TlsSettings,
    { certificates, clientCa }: LoadedTls,
  ): Server {
    const shared = {
      minVersion,
      ciphers: CIPHERS,
      honorCipherOrder: true,
      secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
      ...(clientCa === undefined ? {} : { ca: clientCa }),
    }
    const byName = contextsByName(certificates, shared)
    const [standard] = certificates
    const required = clientCa !== undefined && mode === 'required'
    const hsts = rest.hsts && hstsOf(rest.hsts)
    const made = createServer({
      ...shared,
      cert: standard!.cert,
      key: standard!.key,
      ALPNProtocols: [...alpn],
      handshakeTimeout: rest.handshake_timeout,
      requestCert: clientCa !== undefined,
      rejectUnauthorized: required,
      SNICallback: (name, done) => done(null, contextFor(byName, name)),
    })
    made.on('secureConnection', (socket: TLSSocket) => {
      // The client may reset it before its protocol has taken it.
      socket.on('error', ignore)
      const handshake = take(endsOf(socket))
      const certificate = clientCa === undefined ? undefined : readClientCertificate(socket)
      // Node treats a resumed session without any certificate as verified.
      if (handshake === undefined || (required && certificate?.verified !== true)) {
        handshake?.failed('no client certificate')
        socket.destroy()
        return
      }
      setSecured(socket, { certificate, hsts })
      handshake.next(socket)
    })
    made.on('tlsClientError', (error: NodeJS.ErrnoException, socket: TLSSocket) => {
      take(endsOf(socket))?.failed(error.code ?? error.message)
      socket.destroy()
    })
    return made
  }

  function said(at: readonly (string | number)[], message: string): string {
    return `${path}${at.map((step) => (typeof step === 'number' ? `[${step}]` : `.${step}`)).join('')}: ${message}`
  }

  function take(ends: string): Handshake | undefined {
    const handshake = handshakes.get(ends)
    handshakes.delete(ends)
    handshake?.unwatch()
    return handshake
  }

  function lookAtDates(): void {
    const at = now()
    checkDates(loaded.certificates, at, (key, message) => log.error({}, said(key, message)))
    for (const { file, notAfter } of loaded.certificates) {
      const left = notAfter - at
      if (left <= 0 || left > EXPIRY_WARNING_MS) continue
      const days = Math.floor(left / DAY_MS)
      const fields = { certificate: file, expires: new Date(notAfter).toISOString() }
      log.warn(fields, `a certificate of ${path} expires in ${days} ${days === 1 ? 'day' : 'days'}; renew it`)
    }
  }

  async function watch(): Promise<void> {
    stopWatching()
    const files = filesOf(wanted)
    const known = await Promise.all(files.map(async (file) => ({ file, known: await signatureOf(file) })))
    if (closed) return
    const onChange = () => void reload()
    watches = known.map(({ file, known }) => watchFile(file, { known, pollMs, stableMs, onChange }))
  }

  function stopWatching(): void {
    for (const one of watches) one.close()
    watches = []
  }

  async function replace(): Promise<TlsReload> {
    const settings = wanted
    const messages: string[] = []
    const next = await loadCertificates(settings, (at, message) => messages.push(said(at, message)))
    if (next !== undefined) messages.push(...expiredInPlaceOfGood(next, now()))
    const result = next === undefined || messages.length > 0 ? 'rejected' : apply(settings, next)
    if (result === 'rejected') {
      log.error({ messages }, 'certificates rejected; the last good ones stay in force')
    } else if (result === 'applied') {
      log.info({ certificates: loaded.certificates.map(({ file }) => file) }, 'certificates applied')
      lookAtDates()
    }
    onReload?.(result)
    return result
  }

  /**
   * Returns why the new certificates would replace good ones with expired ones. Every client refuses an expired
   * certificate: this is a mistake, such as an old file that was put back.
   */
  function expiredInPlaceOfGood({ certificates }: LoadedTls, at: number): string[] {
    const good = loaded.certificates.filter(({ notAfter }) => notAfter > at)
    const messages: string[] = []
    checkDates(certificates, at, (key, message) => {
      const { file, names, notAfter } = certificates[key[1] as number]!
      const serves = good.some((one) => one.file === file || one.names.some((name) => names.includes(name)))
      if (notAfter <= at && serves) messages.push(said(key, message))
    })
    return messages
  }

  function apply(settings: TlsSettings, next: LoadedTls): TlsReload {
    if (isDeepStrictEqual(settings, served) && isDeepStrictEqual(next, loaded)) return 'unchanged'
    server = serve(settings, next)
    served = settings
    loaded = next
    return 'applied'
  }

  let turn: Promise<unknown> = Promise.resolve()
  let queued: Promise<TlsReload> | undefined
  async function reload(settings: TlsSettings = wanted): Promise<TlsReload> {
    const moved = !isDeepStrictEqual(filesOf(settings), filesOf(wanted))
    wanted = settings
    if (moved) await watch()
    // A queued reload has not read anything yet: it serves every call that comes meanwhile.
    queued ??= turn.then(() => {
      queued = undefined
      const now = replace()
      turn = now
      return now
    })
    return queued
  }

  return {
    secure(socket, next, failed) {
      const ends = endsOf(socket)
      const handshake = { next, failed, unwatch: () => void socket.off('close', closed) }
      const closed = (): void => {
        // The client may have used the same port again before this end was noticed.
        if (handshakes.get(ends) === handshake) take(ends)
        failed('the connection ended in its handshake')
      }
      handshakes.set(ends, handshake)
      socket.once('close', closed)
      server.emit('connection', socket)
    },
    reload,
    expiries: () => loaded.certificates.map(({ file, notAfter }) => ({ certificate: file, notAfter })),
    close() {
      closed = true
      stopWatching()
      clearInterval(daily)
    },
  }
}

function ignore(): void {}

/** Returns the value of Strict-Transport-Security (RFC 6797 §6.1). */
function hstsOf({ max_age, include_subdomains, preload }: NonNullable<TlsSettings['hsts']>): string {
  const parts = [include_subdomains && 'includeSubDomains', preload && 'preload'].filter(
    (part) => part !== false,
  )
  return [`max-age=${Math.floor(max_age / 1000)}`, ...parts].join('; ')
}

function filesOf({ certificates, client_ca: ca }: TlsSettings): readonly string[] {
  const files = certificates.flatMap(({ cert, key }) => [cert, key])
  return [...new Set(ca === undefined ? files : [...files, ca])]
}

/** Returns a key that no other open connection has. */
function endsOf({ remoteAddress, remotePort, localAddress, localPort }: Socket): string {
  return `${remoteAddress} ${remotePort} ${localAddress} ${localPort}`
}

/** Maps names to certificates. If two certificates have the same name, the first is served. */
function contextsByName(
  certificates: readonly LoadedCertificate[],
  shared: SecureContextOptions,
): ReadonlyMap<string, SecureContext> {
  const byName = new Map<string, SecureContext>()
  for (const { cert, key, names } of certificates) {
    const context = createSecureContext({ ...shared, cert, key })
    for (const name of names) if (!byName.has(name)) byName.set(name, context)
  }
  return byName
}

/** Returns the context for a server name. A wildcard stands for one label (RFC 6125 §6.4.3). */
function contextFor(byName: ReadonlyMap<string, SecureContext>, name: string): SecureContext | undefined {
  const asked = name.toLowerCase()
  const dot = asked.indexOf('.')
  return byName.get(asked) ?? (dot < 0 ? undefined : byName.get(`*${asked.slice(dot)}`))
}
