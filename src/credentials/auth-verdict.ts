/** A request as a service hears of it. */
export interface AuthRequest {
  /**
   * All that the service gets: method, host, path with query, address of the client, scheme, X-Forwarded-For, then the
   * headers of the check in their order. They hold what HTTP allows.
   */
  readonly parts: readonly string[]
  /** Client, for its share. */
  readonly address: string
}

/** Part that stands for a missing header. No value has it. */
export const MISSING = '\r'

/** The service lets the request pass. */
export interface AuthPass {
  readonly kind: 'allowed'
  /** Headers for the upstream: name, value, … */
  readonly fields: readonly string[]
  /** Values of Set-Cookie for the client. */
  readonly cookies: readonly string[]
  /** Id of the client; undefined if the check asks for no id, or its response has none that is usable. */
  readonly consumer: string | undefined
  readonly tier: string | undefined
  readonly tenant: string | undefined
}

/** The service has another answer for the client. */
export interface AuthDenial {
  readonly kind: 'denied'
  readonly status: number
  /** Name, value, … */
  readonly fields: readonly string[]
  readonly body: Buffer
}

/** There is no decision. */
export interface NoVerdict {
  /** failed: the service does not decide. busy: it was not asked, because of this or other callers. */
  readonly kind: 'failed' | 'busy'
  /** For the log. */
  readonly why: string
  /** The service's own 5xx, if there is one. */
  readonly answer?: AuthDenial
}

export type AuthVerdict = AuthPass | AuthDenial | NoVerdict

/** Result of one request for the metrics: a verdict that was remembered, or its kind. */
export type AuthResult = 'cached' | AuthVerdict['kind']
