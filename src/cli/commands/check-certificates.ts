import type { ConfigError, LoadResult } from '../../config/load/load.js'
import { checkDates, EXPIRY_WARNING_MS, loadCertificates } from '../../config/snapshot/certificates.js'
import { doorsOf, tlsOf } from '../../config/snapshot/doors.js'

/** Checks the files that TLS names: that they exist, belong together, and are valid at this time (unix ms). */
export async function checkCertificates(
  { config, at, warnings: before }: Extract<LoadResult, { ok: true }>,
  now: number,
) {
  const errors: ConfigError[] = []
  const warnings = [...before]
  for (const { path: place, settings } of tlsOf(doorsOf(config))) {
    const fail = (path: readonly (string | number)[], message: string) => {
      errors.push(at([...place, ...path], message))
    }
    const loaded = await loadCertificates(settings, fail)
    checkDates(loaded?.certificates ?? [], now, fail)
    for (const [i, { file, notAfter }] of (loaded?.certificates ?? []).entries()) {
      if (notAfter <= now || notAfter > now + EXPIRY_WARNING_MS) continue
      const message = `${file} expires on ${new Date(notAfter).toISOString()}; renew the certificate`
      warnings.push(at([...place, 'certificates', i, 'cert'], message))
    }
  }
  errors.sort((a, b) => a.line - b.line || a.column - b.column)
  return { errors, warnings }
}
