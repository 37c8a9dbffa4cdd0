import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The documentation as a reader and a machine see it: links, headings, and blocks of code. */

export const ROOT = fileURLToPath(new URL('../..', import.meta.url))

export interface Block {
  readonly language: string
  readonly text: string
  /** Number of its first line, from 1. */
  readonly line: number
  /** Text of the comment right above it: `run` of `<!-- run -->`. */
  readonly mark: string | undefined
}

export interface Page {
  /** Path from the root of the project. */
  readonly path: string
  readonly text: string
  readonly blocks: readonly Block[]
  /** Fragments that a link may have. */
  readonly anchors: ReadonlySet<string>
  readonly links: readonly { readonly to: string; readonly line: number }[]
}

/** The pages at the root that describe the project. */
const AT_THE_ROOT = ['README.md', 'ARCHITECTURE.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'SECURITY.md']

/** Returns the pages at the root, those of bench and examples, and all of docs. */
export function readPages(): Page[] {
  const docs = readdirSync(join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' })
  const paths = [
    ...AT_THE_ROOT,
    'bench/README.md',
    'examples/README.md',
    ...docs.map((name) => join('docs', name)),
  ]
  return paths.filter((path) => path.endsWith('.md')).map(readPage)
}

export function readPage(path: string): Page {
  const text = readFileSync(join(ROOT, path), 'utf8')
  const blocks: Block[] = []
  const prose: string[] = []
  let open: { indent: string; language: string; from: number; mark: string | undefined } | undefined
  let held: string[] = []
  const lines = text.split('\n')
  lines.forEach((line, i) => {
    const fence = /^( *)```(\S*)/.exec(line)
    if (open === undefined && fence !== null) {
      const mark = /<!-- (.+?) -->\s*$/.exec(lines[i - 1] ?? '')?.[1]
      open = { indent: fence[1]!, language: fence[2]!, from: i + 2, mark }
      held = []
    } else if (open !== undefined && fence !== null && line.trim() === '```') {
      const { indent, language, from, mark } = open
      const body = held.map((one) => (one.startsWith(indent) ? one.slice(indent.length) : one))
      blocks.push({ language, text: `${body.join('\n')}\n`, line: from, mark })
      open = undefined
    } else if (open !== undefined) held.push(line)
    prose[i] = open === undefined && fence === null ? line : ''
  })
  if (open !== undefined) throw new Error(`${path}:${open.from - 1}: a block of code without an end`)
  return { path, text, blocks, anchors: anchorsOf(prose), links: linksOf(prose) }
}

/** Returns the fragments of headings, as GitHub makes them, and of `<a id>`. */
function anchorsOf(lines: readonly string[]): Set<string> {
  const anchors = new Set<string>()
  const seen = new Map<string, number>()
  for (const line of lines) {
    for (const [, id] of line.matchAll(/<a (?:id|name)="([^"]+)"/g)) anchors.add(id!)
    const heading = /^#{1,6} (.+?)\s*$/.exec(line)?.[1]
    if (heading === undefined) continue
    const slug = heading
      .replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\p{M} _-]/gu, '')
      .replaceAll(' ', '-')
    const before = seen.get(slug) ?? 0
    seen.set(slug, before + 1)
    anchors.add(before === 0 ? slug : `${slug}-${before}`)
  }
  return anchors
}

function linksOf(lines: readonly string[]): { to: string; line: number }[] {
  return lines.flatMap((line, i) =>
    [...line.replace(/`[^`]*`/g, '').matchAll(/\]\(([^)\s]+)(?: "[^"]*")?\)/g)].map(([, to]) => ({
      to: to!,
      line: i + 1,
    })),
  )
}

/** Returns the file, from the root of the project, and the fragment that a link on a page leads to. */
export function targetOf(page: Page, to: string): { path: string; fragment: string | undefined } {
  const [path = '', fragment] = to.split('#')
  const file = path === '' ? page.path : relative(ROOT, join(ROOT, dirname(page.path), path))
  return { path: file, fragment }
}
