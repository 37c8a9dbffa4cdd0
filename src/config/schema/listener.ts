import { type Static, Type } from '@sinclair/typebox'
import { boolean, choice, integer, list, object, string } from './define.js'
import { timer } from './services.js'

/** Schema of what happens to a connection before its first request. */

const file = (description: string, example: string) =>
  string(description, { maxLength: 4096, file: [], examples: [example] })

const Certificate = object(
  {
    cert: file('File with the certificate (PEM), behind it those that lead to its CA', '/etc/tls/api.pem'),
    key: file('File with its private key (PEM), without a passphrase', '/etc/tls/api.key'),
  },
  'A certificate and its key',
)

const Tls = object(
  {
    certificates: list(
      Certificate,
      'Chosen by the name that the client asks for (SNI) from the DNS names in each certificate, the first that has it; the first of all for every other name',
      { minItems: 1, maxItems: 1000, restart: false },
    ),
    min_version: choice(['TLSv1.2', 'TLSv1.3'], 'The oldest version that is spoken', {
      default: 'TLSv1.2',
      restart: false,
    }),
    handshake_timeout: Object.assign(timer('Longest time for a handshake', '10s', 100), { restart: false }),
    client_ca: Type.Optional(
      string('File with the certificates (PEM) of the CAs that client certificates must come from', {
        file: [],
        maxLength: 4096,
        examples: ['/etc/tls/clients-ca.pem'],
        restart: false,
      }),
    ),
    client_certificate: Type.Optional(
      choice(
        ['optional', 'required'],
        'Whether a client must have one of client_ca; by default required. optional: it may do without, and one that is not valid identifies nobody',
        { restart: false },
      ),
    ),
  },
  'TLS to clients. Certificates are read again when their files change',
)
export type TlsSettings = Static<typeof Tls>

/** Keys of `server`. */
export const listenerKeys = {
  tls: Type.Optional(Tls),
  proxy_protocol: boolean(
    'Whether every connection begins with a header of the PROXY protocol, version 1 or 2, and may come from trusted_proxies only',
    { default: false },
  ),
  plain_path: boolean(
    "Whether ordinary requests over plain HTTP/1.1 are read from the socket, without Node's HTTP parser. false: Node's parser reads every request, which costs more CPU and memory",
    { default: true },
  ),
  max_connections: integer(
    'Connections at the same time, less where the limit of open files does not allow as many',
    { default: 10_000, minimum: 1, maximum: 1_000_000 },
  ),
  max_connections_per_client: integer(
    'Connections at the same time from one address, IPv6 by its /64; 0: as many as there are. trusted_proxies may have more',
    { default: 1000, minimum: 0, maximum: 1_000_000 },
  ),
}
