import { type Static, Type } from '@sinclair/typebox'
import { boolean, choice, object, scalar } from './define.js'

/** Schema of connections to upstreams. */

const pem = (description: string, example: string, marks: { secret?: boolean } = {}) =>
  scalar('pem', description, { ...marks, examples: [example] })

const UpstreamTls = object(
  {
    ca: Type.Optional(
      pem(
        'File of the CA certificates, in PEM, that the upstreams are verified with instead of the public ones',
        '/etc/tidegate/payments-ca.pem',
      ),
    ),
    server_name: Type.Optional(
      scalar(
        'dns_name',
        "The name that is asked for (SNI) and looked for in the certificate; by default the upstream's own",
        { examples: ['payments.internal'] },
      ),
    ),
    verify: boolean(
      "Whether the upstream's certificate is verified. Without it anybody in between can read and answer",
      { default: true },
    ),
    cert: Type.Optional(
      pem(
        'File of the certificate, in PEM, that the gateway shows to the upstream',
        '/etc/tidegate/gateway.pem',
      ),
    ),
    key: Type.Optional(pem('File of its key, in PEM', '/etc/tidegate/gateway.key')),
  },
  'TLS to the https:// upstreams of the service. The files are read with the configuration; a renewed one is noticed and applied to new connections',
)
export type UpstreamTlsSettings = Static<typeof UpstreamTls>

/** Keys of a service. */
export const transport = {
  tls: Type.Optional(UpstreamTls),
  protocol: choice(
    ['http1', 'http2'],
    'What is spoken to the upstreams. http2: by ALPN on https://, at once on http://; gRPC needs it',
    { default: 'http1' },
  ),
}
