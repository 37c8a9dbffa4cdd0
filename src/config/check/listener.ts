import { formatListen, type ListenAddress } from '../../net/addresses.js'
import {
  asList,
  type Draft,
  type DraftConfig,
  type Path,
  present,
  type Report,
} from '../schema/partial-config.js'

/** Longest path of a unix socket, in bytes: macOS allows as many, Linux four more. The system would cut the rest off. */
const LONGEST_UNIX = 103

/** A place of `listen`, as far as it is known. */
interface Listened {
  readonly path: Path
  readonly host: string | undefined
  readonly port: number | undefined
  /** False if all requests are redirected. */
  readonly serves: boolean
}

type Tls = NonNullable<NonNullable<DraftConfig['server']>['tls']>

/** Returns the addresses of `listen`, without its unix sockets. */
export function addressesOf({ listen }: DraftConfig): readonly Listened[] {
  if (listen === undefined) return []
  if (!('length' in listen)) {
    return [{ path: ['listen'], host: listen.host, port: listen.port, serves: true }]
  }
  return present(listen).flatMap(([i, entry]) => {
    if (!('address' in entry)) return []
    const { host, port } = entry.address ?? {}
    return [{ path: ['listen', i, 'address'], host, port, serves: !Object.hasOwn(entry, 'redirect') }]
  })
}

/** Checks that the listener's settings go together. `certificates.ts` checks what its files hold. */
export function checkListener(config: DraftConfig, error: Report): void {
  const { server, trusted_proxies: proxies, consumers } = config
  if (server?.proxy_protocol === true && asList(proxies).length === 0) {
    const fix = 'list the proxy there; with the PROXY protocol nobody else may connect'
    error(['server', 'proxy_protocol'], `trusted_proxies is empty; ${fix}`)
  }
  const all: Tls[] = []
  const check = (tls: Tls | undefined, path: Path) => {
    if (tls === undefined) return
    all.push(tls)
    checkTls(tls, path, error)
  }
  check(server?.tls, ['server', 'tls'])
  for (const [tls, path] of checkDoors(config, error)) check(tls, path)
  const asked = all.some((tls) => Object.hasOwn(tls, 'client_ca'))
  let decides: number | undefined
  for (const [i, source] of present(consumers)) {
    if (!('client_certificate' in source)) continue
    const path = ['consumers', i, 'client_certificate']
    if (!asked) error(path, 'the gateway requests no client certificate; give server.tls.client_ca')
    if (decides === undefined) decides = i
    else error(path, `never reached: consumers[${decides}] decides about every certificate; keep one`)
  }
}

function checkTls(tls: Tls, path: Path, error: Report): void {
  if (!Object.hasOwn(tls, 'client_ca') && Object.hasOwn(tls, 'client_certificate')) {
    const wrong = 'the gateway requests no client certificate'
    error([...path, 'client_certificate'], `${wrong}; give client_ca, or remove this`)
  }
  const files = new Map<string | undefined, number>()
  for (const [i, { cert }] of present(tls.certificates)) {
    const first = cert === undefined ? undefined : files.get(cert)
    if (first === undefined) files.set(cert, i)
    else error([...path, 'certificates', i, 'cert'], `${cert} is certificates[${first}] already; remove one`)
  }
}

/** Checks the entries of a list in `listen`. Returns the settings of TLS that they have themselves. */
function checkDoors({ listen, server }: DraftConfig, error: Report): [Tls, Path][] {
  if (listen === undefined || !('length' in listen)) return []
  const own: [Tls, Path][] = []
  const seen = new Map<string, number>()
  let shares = false
  for (const [i, entry] of present(listen)) {
    const path = ['listen', i]
    const place = 'unix' in entry ? entry.unix : addressText('address' in entry ? entry.address : undefined)
    const first = place === undefined ? undefined : seen.get(place)
    if (first !== undefined) error(path, `the same address as listen[${first}]; remove one`)
    else if (place !== undefined) seen.set(place, i)
    if ('unix' in entry && Buffer.byteLength(entry.unix ?? '') > LONGEST_UNIX) {
      error([...path, 'unix'], `a socket's path has ${LONGEST_UNIX} bytes at most; choose a shorter one`)
    }
    if (!('tls' in entry)) continue
    const { tls } = entry
    if (Object.hasOwn(entry, 'redirect') && tls !== false) {
      error([...path, 'tls'], 'an address that redirects to https speaks plain http; remove tls, or redirect')
      continue
    }
    if (typeof tls === 'object') own.push([tls, [...path, 'tls']])
    if (tls === true) shares = true
    if (tls === true && server !== undefined && !Object.hasOwn(server, 'tls')) {
      error([...path, 'tls'], 'there are no settings in server.tls; give them there, or here')
    }
  }
  if (server?.tls !== undefined && !shares) {
    error(['server', 'tls'], 'no address of listen uses it; write tls: true there, or remove this')
  }
  if (present(listen).every(([, entry]) => Object.hasOwn(entry, 'redirect'))) {
    error(['listen'], 'every address redirects, so no request is served; add one without redirect')
  }
  return own
}

/** Returns an address as text; undefined for port 0, which several may have. */
function addressText(at: Draft<ListenAddress> | undefined): string | undefined {
  if (at?.host === undefined || at.port === undefined || at.port === 0) return undefined
  return formatListen({ host: at.host, port: at.port })
}
