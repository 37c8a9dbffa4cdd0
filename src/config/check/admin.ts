import { formatListen, isLoopback, isOpenToTheWay } from '../../net/addresses.js'
import { asList, type DraftConfig, type Say } from '../schema/partial-config.js'

/** Names that the audit uses for clients without a named token. No token may have one of them. */
const TAKEN = ['token', 'loopback']

/** Checks the settings of the admin server beyond the schema. */
export function checkAdmin({ listen, admin }: DraftConfig, error: Say, warning: Say): void {
  checkTokens(admin, error)
  checkOidc(admin?.oidc, error, warning)
  const own = admin?.listen
  if (own?.host === undefined || own.port === undefined) return
  const hasToken =
    Object.hasOwn(admin ?? {}, 'token') ||
    Object.hasOwn(admin ?? {}, 'oidc') ||
    (admin?.tokens ?? [undefined]).length > 0
  if (!isLoopback(own.host) && !hasToken) {
    const wrong = `${formatListen({ host: own.host, port: own.port })} can be reached from other machines`
    error(['admin', 'listen'], `${wrong}; set admin.token or admin.tokens, or listen on 127.0.0.1`)
  }
  if (own.port !== 0 && own.port === listen?.port && own.host === listen.host) {
    error(['admin', 'listen'], 'the same address as listen; give the admin server a port of its own')
  }
}

function checkTokens(admin: DraftConfig['admin'], error: Say): void {
  const names = new Set<string>()
  const hashes = new Set<string>()
  for (const [i, token] of asList(admin?.tokens).entries()) {
    const path = ['admin', 'tokens', i]
    if (token?.name !== undefined) {
      if (TAKEN.includes(token.name))
        error([...path, 'name'], `"${token.name}" means something else in the audit; take another name`)
      if (names.has(token.name)) error([...path, 'name'], 'the same name is given above; take another')
      names.add(token.name)
    }
    if (token?.sha256 === undefined) continue
    if (hashes.has(token.sha256)) error(path, 'the same token is given above already; give each its own')
    hashes.add(token.sha256)
  }
}

function checkOidc(oidc: NonNullable<DraftConfig['admin']>['oidc'], error: Say, warning: Say): void {
  if (oidc?.roles !== undefined && Object.keys(oidc.roles).length === 0)
    error(['admin', 'oidc', 'roles'], 'nobody may do anything; give a value of the claim a role')
  if (oidc?.jwks_url === undefined || !isOpenToTheWay(oidc.jwks_url)) return
  const wrong = 'who is on the way to it can put in keys of their own'
  warning(['admin', 'oidc', 'jwks_url'], `${wrong}; take https, or a network that is yours alone`)
}
