import { asList, type DraftConfig, present, type Report } from '../schema/partial-config.js'

/** Checks that the listener's settings go together. `certificates.ts` checks what its files hold. */
export function checkListener(
  { server, trusted_proxies: proxies, consumers }: DraftConfig,
  error: Report,
): void {
  const tls = server?.tls
  if (server?.proxy_protocol === true && asList(proxies).length === 0) {
    const fix = 'list the proxy there; with the PROXY protocol nobody else may connect'
    error(['server', 'proxy_protocol'], `trusted_proxies is empty; ${fix}`)
  }
  const asked = tls !== undefined && Object.hasOwn(tls, 'client_ca')
  if (tls !== undefined && !asked && Object.hasOwn(tls, 'client_certificate')) {
    const wrong = 'the gateway requests no client certificate'
    error(['server', 'tls', 'client_certificate'], `${wrong}; give client_ca, or remove this`)
  }
  const files = new Map<string | undefined, number>()
  for (const [i, { cert }] of present(tls?.certificates)) {
    const first = cert === undefined ? undefined : files.get(cert)
    if (first === undefined) files.set(cert, i)
    else
      error(
        ['server', 'tls', 'certificates', i, 'cert'],
        `${cert} is certificates[${first}] already; remove one`,
      )
  }
  let decides: number | undefined
  for (const [i, source] of present(consumers)) {
    if (!('client_certificate' in source)) continue
    const path = ['consumers', i, 'client_certificate']
    if (!asked) error(path, 'the gateway requests no client certificate; give server.tls.client_ca')
    if (decides === undefined) decides = i
    else error(path, `never reached: consumers[${decides}] decides about every certificate; keep one`)
  }
}
