/**
 * Returns the path of a raw request target, without parts that may be secret: the query, and user:password in the
 * absolute or authority form.
 */
export function pathOf(target: string): string {
  const query = target.indexOf('?')
  const path = query < 0 ? target : target.slice(0, query)
  if (path.charCodeAt(0) === 47) return path
  const scheme = path.indexOf('://')
  if (scheme < 0) return path.slice(path.lastIndexOf('@') + 1)
  const slash = path.indexOf('/', scheme + 3)
  return slash < 0 ? '/' : path.slice(slash)
}
