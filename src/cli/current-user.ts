import { hostname, userInfo } from 'node:os'

/**
 * Returns the user who runs this command, as the audit names them: `alice@desk-3`. ASCII only, because it goes into a
 * header.
 */
export function currentUser(): string {
  return `${userName()}@${hostname()}`.replace(/[^\x21-\x7e]/g, '?').slice(0, 150)
}

/** Returns the user's name. In a container the user may be a number without a name. */
function userName(): string {
  try {
    return userInfo().username
  } catch {
    return String(process.getuid?.() ?? 'unknown')
  }
}
