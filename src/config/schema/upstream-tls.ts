import type { Static } from '@sinclair/typebox'
import { boolean, choice, object, scalar } from './define.js'

/** Schema of connections to upstreams. */

const pem = (description: string, example: string) => scalar('pem', description, { examples: [example] })

export const UpstreamTls = object(
  {
    'ca?': pem(
      'File of the CA certificates, in PEM, that verify the upstreams instead of the public CAs',
      '/etc/tidegate/payments-ca.pem',
    ),
    'server_name?': scalar(
      'dns_name',
      "Name for SNI, which the certificate must contain. Default: the upstream's own name",
      { examples: ['payments.internal'] },
    ),
    verify: boolean(
      "Verify the upstream's certificate. Without that, anyone on the network path can read requests and answer them",
      { default: true },
    ),
    'cert?': pem("File of the gateway's client certificate, in PEM", '/etc/tidegate/gateway.pem'),
    'key?': pem('File of its key, in PEM', '/etc/tidegate/gateway.key'),
  },
  'TLS to the https:// upstreams of the service. The gateway reads the files with the configuration, and again when they change; new connections use them',
)
export type UpstreamTlsSettings = Static<typeof UpstreamTls>

/** Keys of a service. */
export const transport = {
  'tls?': UpstreamTls,
  protocol: choice(
    ['http1', 'http2'],
    'Protocol to the upstreams. http2: by ALPN on https://, with prior knowledge on http://. gRPC needs it',
    { default: 'http1' },
  ),
}
