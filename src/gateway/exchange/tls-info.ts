import type { TLSSocket } from 'node:tls'
import { alternativeNames } from '../../config/snapshot/certificates.js'
import type { CertificateId } from '../../config/snapshot/snapshot.js'

export interface ClientCertificate {
  /** A CA of `client_ca` vouches for it, and it holds now. */
  readonly verified: boolean
  /** What it could identify its owner by; undefined when it does not say, or says several common names. */
  readonly ids: Readonly<Record<CertificateId, string | undefined>>
}

/** What is known of a connection because it is encrypted. */
export interface Secured {
  /** The client's, when it gave one. */
  readonly certificate: ClientCertificate | undefined
}

const SECURED = Symbol('secured')
interface MaybeSecured {
  [SECURED]?: Secured
}

/** Undefined for a connection in plain text. */
export function securedOf(socket: object): Secured | undefined {
  return (socket as MaybeSecured)[SECURED]
}

export function setSecured(socket: object, secured: Secured): void {
  ;(socket as MaybeSecured)[SECURED] = secured
}

/** The certificate that the client has proven to be its own, if it gave one. Read once a connection. */
export function readClientCertificate(socket: TLSSocket): ClientCertificate | undefined {
  const certificate = socket.getPeerX509Certificate()
  if (certificate === undefined) return undefined
  const names = alternativeNames(certificate.subjectAltName)
  const first = (kind: string) => names.find(([of]) => of === kind)?.[1]
  const { CN: name } = certificate.toLegacyObject().subject as { CN?: string | string[] }
  return {
    verified: socket.authorized,
    ids: {
      subject_cn: typeof name === 'string' ? name : undefined,
      san_dns: first('DNS'),
      san_uri: first('URI'),
      san_email: first('email'),
      fingerprint: certificate.fingerprint256.replaceAll(':', '').toLowerCase(),
    },
  }
}
