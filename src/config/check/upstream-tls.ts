import { createPrivateKey, X509Certificate } from 'node:crypto'
import { createSecureContext } from 'node:tls'
import { asList, type Draft, type DraftConfig, type Path, type Say } from '../schema/partial-config.js'
import type { UpstreamTlsSettings } from '../schema/upstream-tls.js'

/** Checks that the TLS settings of upstreams go together, and that their files hold what they should. */
export function checkUpstreamTls({ services }: DraftConfig, error: Say, warning: Say): void {
  for (const [name, service] of Object.entries(services ?? {})) {
    const tls = service?.tls
    if (tls === undefined) continue
    const path = ['services', name, 'tls']
    const upstreams = asList(service?.upstreams)
    if (!upstreams.some((upstream) => urlOf(upstream)?.startsWith('https://') !== false)) {
      error(
        path,
        'no upstream of the service begins with https, so that nothing goes over TLS; write https://',
      )
    }
    if (
      (Object.hasOwn(tls, 'cert') && Object.hasOwn(tls, 'key')) !==
      (Object.hasOwn(tls, 'cert') || Object.hasOwn(tls, 'key'))
    ) {
      error(path, 'cert and key belong together; give both, or neither')
    }
    if (tls.verify === false) {
      warning(
        [...path, 'verify'],
        'whoever is in between can read and answer; give the CA of the upstreams in ca',
      )
    }
    checkFiles(tls, path, error)
  }
}

/** Returns the URL of an upstream, which is an address, or a mapping with one. */
function urlOf(upstream: unknown): string | undefined {
  if (typeof upstream === 'string') return upstream
  const { url } = (upstream ?? {}) as { url?: unknown }
  return typeof url === 'string' ? url : undefined
}

function checkFiles({ ca, cert, key }: Draft<UpstreamTlsSettings>, path: Path, error: Say): void {
  const isWrong = (name: string, file: Draft<UpstreamTlsSettings['ca']>, read: (text: string) => unknown) => {
    if (file?.text === undefined) return false
    const { text } = file
    if (passes(() => read(text))) return false
    const held = name === 'key' ? 'no key that can be used' : 'no certificate that can be used'
    error([...path, name], `${file.file} holds ${held}; name a PEM file with one`)
    return true
  }
  isWrong('ca', ca, (text) => new X509Certificate(text))
  const wrong = [
    isWrong('cert', cert, (text) => new X509Certificate(text)),
    isWrong('key', key, (text) => createPrivateKey(text)),
  ]
  if (wrong.includes(true) || cert?.text === undefined || key?.text === undefined) return
  const pair = { cert: cert.text, key: key.text }
  if (!passes(() => createSecureContext(pair))) {
    error(
      [...path, 'key'],
      `${key.file} is not the key of ${cert.file}; name the two that were made together`,
    )
  }
}

function passes(run: () => unknown): boolean {
  try {
    run()
    return true
  } catch {
    return false
  }
}
