import { createPrivateKey, X509Certificate } from 'node:crypto'
import { createSecureContext } from 'node:tls'
import { asList, type Draft, type DraftConfig, type Path, type Report } from '../schema/partial-config.js'
import type { UpstreamTlsSettings } from '../schema/upstream-tls.js'

/** Checks that the TLS settings of upstreams go together, and that their files hold what they should. */
export function checkUpstreamTls({ services }: DraftConfig, error: Report, warning: Report): void {
  for (const [name, service] of Object.entries(services ?? {})) {
    const tls = service?.tls
    if (tls === undefined) continue
    const path = ['services', name, 'tls']
    const urls = asList(service?.upstreams).map((entry) => (typeof entry === 'object' ? entry.url : entry))
    if (!urls.some((url) => url?.startsWith('https://') !== false))
      error(path, 'no upstream of the service uses TLS; write https://')
    checkClientTls(tls, path, error, warning)
  }
}

/** Checks the settings of TLS to a server. */
export function checkClientTls(
  tls: Draft<UpstreamTlsSettings>,
  path: Path,
  error: Report,
  warning: Report,
): void {
  if (Object.hasOwn(tls, 'cert') !== Object.hasOwn(tls, 'key'))
    error(path, 'cert and key belong together; give both, or neither')
  if (tls.verify === false) {
    const wrong = 'anyone on the network path can read requests and answer them'
    warning([...path, 'verify'], `${wrong}; give the CA of the upstreams in ca`)
  }
  checkFiles(tls, path, error)
}

function checkFiles({ ca, cert, key }: Draft<UpstreamTlsSettings>, path: Path, error: Report): void {
  const isWrong = (name: string, file: Draft<UpstreamTlsSettings['ca']>, read: (text: string) => unknown) => {
    const text = file?.text
    if (text === undefined || passes(() => read(text))) return false
    const held = name === 'key' ? 'no usable key' : 'no usable certificate'
    error([...path, name], `${file!.file} contains ${held}; name a PEM file with one`)
    return true
  }
  isWrong('ca', ca, (text) => new X509Certificate(text))
  const wrong = [
    isWrong('cert', cert, (text) => new X509Certificate(text)),
    isWrong('key', key, (text) => createPrivateKey(text)),
  ]
  if (wrong.includes(true) || cert?.text === undefined || key?.text === undefined) return
  const pair = { cert: cert.text, key: key.text }
  if (passes(() => createSecureContext(pair))) return
  error([...path, 'key'], `${key.file} is not the key of ${cert.file}; name a certificate and its own key`)
}

function passes(run: () => unknown): boolean {
  try {
    run()
    return true
  } catch {
    return false
  }
}
