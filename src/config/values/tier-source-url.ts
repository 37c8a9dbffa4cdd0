import type { Fail } from './parse-url.js'

/** Reads addresses of tier sources. They contain secrets, so no message repeats any part of them. */

/** Placeholder for the consumer's id in the address of an HTTP source. */
export const CONSUMER = '{consumer}'

/**
 * Reads `postgres://[user[:password]@]host[:port]/database[?sslmode=…]`. Of libpq's `sslmode`, it accepts only values
 * that say if the server's certificate is checked. The others mean different things to different clients.
 */
export function readPostgresUrl(text: string, fail: Fail): string | undefined {
  const fix = 'write postgres://user:password@host:5432/database; escape special characters as %40 and so on'
  if (
    !/^postgres(ql)?:\/\/[\x21-\x7e]+$/.test(text) ||
    /%(?![0-9a-fA-F]{2})/.test(text) ||
    !URL.canParse(text)
  ) {
    return fail('is not the address of a PostgreSQL database', fix)
  }
  const { hostname, pathname, searchParams } = new URL(text)
  if (hostname === '' && !searchParams.has('host')) return fail('names no host', fix)
  if (pathname.length < 2) return fail('names no database', fix)
  const mode = searchParams.get('sslmode')
  if (mode !== null && !['disable', 'verify-full', 'no-verify'].includes(mode)) {
    return fail(
      'has an sslmode that does not say if the certificate is checked',
      'write sslmode=verify-full, with sslrootcert=FILE for a CA of your own, or sslmode=no-verify',
    )
  }
  return text
}

/** Reads an http(s) address with `{consumer}` in its path or query. */
export function readTierSourceUrl(text: string, fail: Fail): string | undefined {
  const fix = `write one such as http://billing.internal/plans/${CONSUMER}`
  const [, origin = '', rest = ''] = /^(https?:\/\/[^/?#]+)(.*)$/.exec(text) ?? []
  if (origin === '' || !URL.canParse(origin)) return fail('is not an http:// or https:// address', fix)
  if (origin.includes('@')) return fail('contains credentials', 'give them in headers, as authorization')
  if (!/^[\x21-\x22\x24-\x7e]*$/.test(rest)) {
    return fail(
      'contains a fragment, a space or characters beyond ASCII',
      'remove them, or escape them as %20',
    )
  }
  if (!rest.includes(CONSUMER)) return fail(`has no ${CONSUMER} behind its host`, fix)
  if (/[{}]/.test(rest.replaceAll(CONSUMER, ''))) {
    return fail(`contains braces other than those of ${CONSUMER}`, `write ${CONSUMER} alone, others as %7B`)
  }
  return text
}
