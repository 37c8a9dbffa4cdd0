/** Reads commands as a Redis client sends them. @returns a function that takes bytes, as latin1, and returns the complete commands */
export function commandReader(): (data: Buffer) => string[][] {
  let text = ''

  function takeCommand(): string[] | undefined {
    const head = /^\*(\d+)\r\n/.exec(text)
    if (head === null) return undefined
    const parts: string[] = []
    let at = head[0].length
    for (let i = 0; i < Number(head[1]); i++) {
      const size = /^\$(\d+)\r\n/.exec(text.slice(at, at + 20))
      const from = at + (size?.[0].length ?? 0)
      if (size === null || text.length < from + Number(size[1]) + 2) return undefined
      parts.push(text.slice(from, from + Number(size[1])))
      at = from + Number(size[1]) + 2
    }
    text = text.slice(at)
    return parts
  }

  return (data) => {
    text += data.toString('latin1')
    const commands: string[][] = []
    for (let command = takeCommand(); command !== undefined; command = takeCommand()) commands.push(command)
    return commands
  }
}

/** Encodes an array of bulk strings: a command, or a reply. */
export function bulks(parts: readonly string[]): string {
  return `*${parts.length}\r\n${parts.map((part) => `$${part.length}\r\n${part}\r\n`).join('')}`
}
