import type { CdnPreset } from '../schema/edge.js'
import type { Config } from '../schema/schema.js'

/** Headers in which trusted proxies describe the client, in lower case. */
export interface Cdn {
  readonly address: string | undefined
  readonly country: string | undefined
  readonly botScore: string | undefined
  /** True if the address is followed by its port without brackets, as in `2001:db8::1:443`. */
  readonly portBehind: boolean
  /** Number of entries at the right end of X-Forwarded-For that are the proxy's own addresses. */
  readonly ownEntries: number
}

export const NO_CDN: Cdn = Object.freeze({
  address: undefined,
  country: undefined,
  botScore: undefined,
  portBehind: false,
  ownEntries: 0,
})

/**
 * Presets from the vendors' manuals. Cloudflare: the managed transform "Add bot protection headers" sets CF-Bot-Score.
 * CloudFront: the origin request policy must include both headers. Fastly sets Fastly-Client-IP only if the client has
 * not, so its VCL must set it. Google's load balancers append `<client>,<load balancer>` to X-Forwarded-For.
 */
const PRESETS: Readonly<Record<CdnPreset, Cdn>> = {
  cloudflare: { ...NO_CDN, address: 'cf-connecting-ip', country: 'cf-ipcountry', botScore: 'cf-bot-score' },
  cloudfront: {
    ...NO_CDN,
    address: 'cloudfront-viewer-address',
    country: 'cloudfront-viewer-country',
    portBehind: true,
  },
  fastly: { ...NO_CDN, address: 'fastly-client-ip' },
  gcp: { ...NO_CDN, ownEntries: 1 },
}

export function compileCdn(settings: Config['edge']['cdn']): Cdn {
  if (settings === undefined) return NO_CDN
  if (typeof settings === 'string') return PRESETS[settings]
  const { preset, address_header: address, country_header: country, bot_score_header: botScore } = settings
  const known = preset === undefined ? NO_CDN : PRESETS[preset]
  return {
    address: address ?? known.address,
    country: country ?? known.country,
    botScore: botScore ?? known.botScore,
    portBehind: address === undefined && known.portBehind,
    ownEntries: address === undefined ? known.ownEntries : 0,
  }
}

export function headersOfCdn({ address, country, botScore }: Cdn): string[] {
  return [address, country, botScore].filter((name) => name !== undefined)
}
