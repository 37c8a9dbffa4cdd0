/**
 * Returns every path that some backend could read this one as. A backend may decode it not at all, once or twice, read a backslash as a
 * slash, cut off the `;parameters` of a segment, or take a decoded `?` or `#` for the end of the path. It then resolves dot segments,
 * merges slashes and ignores a slash at the end.
 */
export function readings(path: string): Set<string> {
  const found = new Set<string>()
  for (const once of [path, decode(path), decode(decode(path))]) {
    for (const slashed of [once, once.replaceAll('\\', '/')]) {
      for (const bare of [slashed, slashed.replace(/;[^/]*/g, '')]) {
        // Decoded again after the parameters were cut, as some chains of two backends do.
        for (const last of [bare, decode(bare)]) {
          found.add(resolve(last))
          found.add(resolve(last.split(/[?#]/, 1)[0]!))
        }
      }
    }
  }
  return found
}

/** Malformed escapes stay as they are, as lenient decoders leave them. */
function decode(text: string): string {
  return text.replace(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
}

function resolve(path: string): string {
  const out: string[] = []
  for (const segment of path.split('/')) {
    if (segment === '..') out.pop()
    else if (segment !== '' && segment !== '.') out.push(segment)
  }
  return `/${out.join('/')}`
}
