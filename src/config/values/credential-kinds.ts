/** A kind of credential: what checks, challenges and printed words need to know about it. */
interface CredentialKind {
  /** Keys of its settings that name the headers it reads, or list them. The first one holds the credential. */
  readonly headerKeys?: readonly string[]
  /** Headers that it reads whatever the settings say, in lower case. */
  readonly headers?: readonly string[]
  /** Authentication scheme of its challenge (RFC 9110 §11.6.1). API keys have no registered one. */
  readonly scheme?: string
  /** Says what identified a consumer. */
  readonly identified: string
  /** Says where a tier came from; undefined if the credential cannot hold a tier. */
  readonly tierFrom?: string
}

/** The headers of a signature. They may occur more than once: a request may have several signatures. */
export const SIGNATURE_HEADERS = ['signature', 'signature-input'] as const

/** Kinds of credentials by their key in `consumers`. A 401 lists their challenges in this order. */
export const CREDENTIAL_KINDS = {
  jwt: {
    headerKeys: ['header'],
    scheme: 'Bearer',
    identified: 'by token',
    tierFrom: 'said by its token',
  },
  api_key: {
    headerKeys: ['header'],
    scheme: 'ApiKey',
    identified: 'by API key',
    tierFrom: 'given by its API key',
  },
  client_certificate: {
    identified: 'by client certificate',
    tierFrom: 'said by its certificate',
  },
  signature: {
    headers: SIGNATURE_HEADERS,
    scheme: 'Signature',
    identified: 'by a signature',
    tierFrom: 'given by its signing key',
  },
  extension: {
    identified: 'by an extension',
    tierFrom: 'given by its extension',
  },
  forward: {
    headerKeys: ['headers'],
    identified: 'by an auth service',
    tierFrom: 'said by its auth service',
  },
  header: {
    headerKeys: ['name', 'tenant'],
    identified: 'by a trusted header',
    tierFrom: 'said by its header',
  },
  ip: { identified: 'by address' },
} as const satisfies Readonly<Record<string, CredentialKind>>

export type CredentialKindName = keyof typeof CREDENTIAL_KINDS

/** Names of what may have identified a consumer: a credential, or the application that the gateway is mounted in. */
export type IdentifiedBy = CredentialKindName | 'application'

const APPLICATION: CredentialKind = {
  identified: 'by the application',
  tierFrom: 'said by the application',
}

/** Returns the facts about a kind; undefined for a name that another version of Tidegate may know. */
export function credentialKind(name: string | null | undefined): CredentialKind | undefined {
  if (name === 'application') return APPLICATION
  return (CREDENTIAL_KINDS as Readonly<Record<string, CredentialKind>>)[name ?? '']
}

/** A header that a source of consumers reads, and the key of its settings that names it, if one does. */
export type SourceHeader = readonly [name: string, key: string | undefined]

/** Returns the headers that a source of consumers reads, as far as its settings could be read. */
export function headersOf(source: object): readonly SourceHeader[] {
  return Object.entries(source).flatMap(([kind, settings]) => {
    const { headerKeys = [], headers = [] } = credentialKind(kind) ?? {}
    return [
      ...headers.map((name): SourceHeader => [name, undefined]),
      ...headerKeys.flatMap((key) =>
        [settings?.[key] ?? []].flat().flatMap((name): SourceHeader[] => (name ? [[name, key]] : [])),
      ),
    ]
  })
}
