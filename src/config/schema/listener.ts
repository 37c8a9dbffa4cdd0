import type { Static } from '@sinclair/typebox'
import type { ListenAddress } from '../../net/addresses.js'
import {
  boolean,
  choice,
  duration,
  either,
  filePath,
  integer,
  list,
  object,
  scalar,
  timer,
} from './define.js'

/** Schema of what happens to a connection before its first request. */

const Certificate = object(
  {
    cert: filePath('File with the certificate (PEM), followed by those that lead to its CA', {
      examples: ['/etc/tls/api.pem'],
    }),
    key: filePath('File with its private key (PEM), without a passphrase', {
      examples: ['/etc/tls/api.key'],
    }),
  },
  'A certificate and its key',
)

/** Longest time that browsers may be told to remember, in ms. */
const LONGEST_HSTS = 1000 * 86_400_000

const Hsts = either<{ max_age: number; include_subdomains: boolean; preload: boolean }>(
  [
    scalar('hsts', 'How long browsers use https alone', { shorthand: true, restart: false }),
    object(
      {
        max_age: duration('How long browsers use https alone', [0, LONGEST_HSTS], { examples: ['365d'] }),
        include_subdomains: boolean('For all names below the host, too', { default: false }),
        preload: boolean('Consent to the lists that browsers bring along. Leaving them takes months', {
          default: false,
        }),
      },
      'HTTP Strict Transport Security',
    ),
  ],
  'Strict-Transport-Security (RFC 6797) in every response over TLS, unless the upstream or the route sets it: a duration, or a mapping. Default: none',
  { restart: false, examples: ['365d'] },
)

const Tls = object(
  {
    certificates: list(
      Certificate,
      'Certificates. The gateway takes the first one whose DNS names include the name that the client requests (SNI), otherwise the first of all',
      { minItems: 1, maxItems: 1000, restart: false },
    ),
    min_version: choice(['TLSv1.2', 'TLSv1.3'], 'Oldest TLS version that is accepted', {
      default: 'TLSv1.2',
      restart: false,
    }),
    handshake_timeout: timer('Timeout of a handshake', '10s', 100, { restart: false }),
    'client_ca?': filePath('File with the CA certificates (PEM) that client certificates must come from', {
      examples: ['/etc/tls/clients-ca.pem'],
      restart: false,
    }),
    'client_certificate?': choice(
      ['optional', 'required'],
      'required: a client must present a certificate of client_ca. optional: it may have none, and an invalid one identifies nobody. Default: required',
      { restart: false },
    ),
    'hsts?': Hsts,
  },
  'TLS to clients. The gateway reads certificates again when their files change',
)
export type TlsSettings = Static<typeof Tls>

const PlainPath = object(
  {
    requests: boolean("Requests on connections without TLS. false: Node's parser reads them", {
      default: true,
    }),
    tls: boolean("HTTP/1.1 requests on connections with TLS. false: Node's parser reads them", {
      default: true,
    }),
    responses: boolean('Responses of upstreams that arrive whole. false: the full reader reads them', {
      default: true,
    }),
  },
  'Parts of the plain path. Each can be switched off',
)
export type PlainPathSettings = Static<typeof PlainPath>

const Address = object(
  {
    address: scalar('listen', 'host:port. Without a host, as in ":443", all addresses of the machine', {
      examples: [':443'],
    }),
    'tls?': either<boolean | TlsSettings>(
      [boolean('true: with the settings of server.tls'), Tls],
      'true: TLS with the settings of server.tls. A mapping: with settings of its own. Default: plain text',
    ),
    'redirect?': scalar(
      'redirect',
      'Redirect every request to https: 308, with the same host and target. https:8443 names another port than 443',
      { examples: ['https'] },
    ),
  },
  'An address',
)

const Unix = object(
  {
    unix: filePath('Path of a unix socket', { examples: ['/run/tidegate/tidegate.sock'] }),
    mode: scalar('mode', 'Who may connect: permissions of the file, in octal', { default: '0660' }),
  },
  'A unix socket',
)

export type ListenEntry = Static<typeof Address> | Static<typeof Unix>

export const Listen = either<ListenAddress | ListenEntry[]>(
  [
    scalar('listen', 'host:port'),
    list(either<ListenEntry>([Address, Unix], 'An address, or a unix socket'), 'Several', {
      minItems: 1,
      maxItems: 16,
    }),
  ],
  'Address of the gateway, as host:port, or a list of addresses and unix sockets, each with settings of its own. Port 0 takes any free one; without a host, as in ":8080", all addresses of the machine',
  { default: '0.0.0.0:8080', restart: true },
)

/** Keys of `server`. */
export const listenerKeys = {
  'tls?': Tls,
  proxy_protocol: boolean(
    'Require a PROXY protocol header, version 1 or 2, on every connection. Then only trusted_proxies may connect',
    { default: false },
  ),
  plain_path: either<PlainPathSettings>(
    [scalar('plain_path', 'Use every part of it, or none'), PlainPath],
    "true, false, or a mapping of its parts: read ordinary HTTP/1.1 messages straight from the bytes of the socket. false: Node's parser reads every request, and the full reader every response, which costs more CPU and memory",
    { default: true },
  ),
  max_connections: integer(
    'Concurrent connections. There are fewer where the limit of open files does not allow as many',
    [1, 1_000_000],
    { default: 10_000 },
  ),
  max_connections_per_client: integer(
    'Concurrent connections from one address, or from one /64 of IPv6; 0: no limit. trusted_proxies may have more',
    [0, 1_000_000],
    { default: 1000 },
  ),
}
