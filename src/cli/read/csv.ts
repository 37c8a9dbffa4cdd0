/** Splits a line into cells (RFC 4180), without the blanks around unquoted ones; undefined if a quote is misplaced. */
export function cellsOf(line: string): string[] | undefined {
  const cells: string[] = []
  let at = 0
  for (;;) {
    while (line[at] === ' ' || line[at] === '\t') at++
    if (line[at] === '"') {
      let cell = ''
      for (;;) {
        const end = line.indexOf('"', at + 1)
        if (end < 0) return undefined
        cell += line.slice(at + 1, end)
        at = end + 1
        if (line[at] !== '"') break
        cell += '"'
      }
      cells.push(cell)
      while (line[at] === ' ' || line[at] === '\t') at++
      if (at < line.length && line[at] !== ',') return undefined
    } else {
      const end = line.indexOf(',', at)
      const cell = line.slice(at, end < 0 ? line.length : end).trimEnd()
      if (cell.includes('"')) return undefined
      cells.push(cell)
      at = end < 0 ? line.length : end
    }
    if (at >= line.length) return cells
    at++
    if (at === line.length) return [...cells, '']
  }
}
