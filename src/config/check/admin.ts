import { formatListen, isExposedOnTheWay, isLoopback } from '../../net/addresses.js'
import { asList, type DraftConfig, present, type Report, repeated } from '../schema/partial-config.js'
import { addressesOf } from './listener.js'

/** Names that the audit uses for clients without a named token. No token may have one of them. */
const TAKEN = ['token', 'loopback']

/** Checks the settings of the admin server beyond the schema. */
export function checkAdmin(config: DraftConfig, error: Report, warning: Report): void {
  const { admin } = config
  if (admin === undefined) return
  const names = asList(admin.tokens).map((token) => token?.name)
  for (const [i, name] of present(names)) {
    if (TAKEN.includes(name))
      error(
        ['admin', 'tokens', i, 'name'],
        `"${name}" has a meaning of its own in the audit log; take another name`,
      )
  }
  for (const i of repeated(names))
    error(['admin', 'tokens', i, 'name'], 'an earlier token has the same name; take another')
  for (const i of repeated(asList(admin.tokens).map((token) => token?.sha256)))
    error(['admin', 'tokens', i], 'this token is listed twice; give each its own')
  checkOidc(admin.oidc, error, warning)
  const own = admin.listen
  if (own?.host === undefined || own.port === undefined) return
  const hasToken =
    Object.hasOwn(admin, 'token') || Object.hasOwn(admin, 'oidc') || (admin.tokens ?? [undefined]).length > 0
  if (!isLoopback(own.host) && !hasToken) {
    const wrong = `other machines can reach ${formatListen({ host: own.host, port: own.port })}`
    error(['admin', 'listen'], `${wrong}; set admin.token or admin.tokens, or listen on 127.0.0.1`)
  }
  const { host, port } = own
  if (port !== 0 && addressesOf(config).some((one) => one.port === port && one.host === host)) {
    error(['admin', 'listen'], 'the same address as listen; give the admin server a port of its own')
  }
}

function checkOidc(oidc: NonNullable<DraftConfig['admin']>['oidc'], error: Report, warning: Report): void {
  if (oidc?.roles !== undefined && Object.keys(oidc.roles).length === 0)
    error(['admin', 'oidc', 'roles'], 'nobody gets a role; give a value of the claim a role')
  warnOfOpenKeys(oidc?.jwks_url, ['admin', 'oidc', 'jwks_url'], warning)
}

/** Warns about public keys that are fetched in plain text over a network. */
export function warnOfOpenKeys(
  url: string | undefined,
  path: readonly (string | number)[],
  warning: Report,
): void {
  if (url === undefined || !isExposedOnTheWay(url)) return
  const wrong = 'anyone on the network path can put in keys of their own'
  warning(path, `${wrong}; use https, or a private network`)
}
