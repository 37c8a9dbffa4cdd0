import {
  type Alias,
  Composer,
  type CST,
  type Document,
  type ErrorCode,
  isAlias,
  isCollection,
  isNode,
  isPair,
  Lexer,
  type Node,
  Parser,
} from 'yaml'

/** Parses the text of a file into a YAML document, or reports why it is not one. Never recurses on the content. */

/** Maximum size of a configuration, in UTF-16 units: of all its files together. */
export const MAX_BYTES = 1024 * 1024
const MAX_DEPTH = 20
/** Maximum number of values, with every alias counted as what it refers to. No sane file comes near. */
export const MAX_VALUES = 100_000
const TOO_DEEP = `nested more than ${MAX_DEPTH} levels deep; flatten it`
const TOO_MANY = `more than ${MAX_VALUES.toLocaleString('en')} values; keep what is needed`

export interface Position {
  readonly line: number
  readonly column: number
}

export interface SyntaxProblem extends Position {
  readonly message: string
}

export interface ParsedYaml {
  /** Offset of the first character. */
  readonly start: number
  /** Number of values, with every alias counted as what it refers to. */
  readonly values: number
  readonly document: Document
  readonly problems: readonly SyntaxProblem[]
  /** Returns the node that an alias refers to; undefined if no anchor above it has that name. */
  target(alias: Alias): Node | undefined
  /** Returns line and column of an offset in the text; both from 1. */
  position(offset: number): Position
}

/** @param start offset of the first character, which all other offsets count from */
export function parseYaml(text: string, start = 0): ParsedYaml | SyntaxProblem {
  if (text.length > MAX_BYTES || Buffer.byteLength(text) > MAX_BYTES) {
    const message = 'the file is larger than 1 MiB; remove what does not belong in it'
    return { line: 1, column: 1, message }
  }
  const position = positionsIn(text, start)
  const excess = findExcess(text)
  if (excess !== undefined) return { ...position(start + excess.offset), message: excess.message }
  const parser = new Parser()
  parser.offset = start
  const tokens = [...parser.parse(text)]
  // The composer recurses. At a depth of some hundreds it can crash the whole process.
  const tooDeep = deeperThan(tokens, MAX_DEPTH)
  if (tooDeep !== undefined) {
    return { ...position(tooDeep), message: TOO_DEEP }
  }
  const options = {
    prettyErrors: false,
    uniqueKeys: false,
    schema: 'core',
    version: '1.2',
  } as const
  const documents = [...new Composer(options).compose(tokens, true, start + text.length)] as Document[]
  const [document, second] = documents
  const problems: SyntaxProblem[] = []
  for (const { code, pos } of [...document!.errors, ...document!.warnings]) {
    problems.push({ ...position(pos[0]), message: explain(code, text, pos[0] - start) })
  }
  if (second !== undefined) {
    const at = second.range?.[0] ?? start
    problems.push({ ...position(at), message: explain('MULTIPLE_DOCS', text, at - start) })
  }
  const aliases = followAliases(document!)
  const { problem } = aliases
  if (problem !== undefined) problems.push({ ...position(problem.offset), message: problem.message })
  return {
    start,
    values: aliases.values,
    document: document!,
    problems: withoutTrain(problems),
    target: (alias) => aliases.targets.get(alias),
    position,
  }
}

/**
 * Returns a function from offset to position. The library counts lines, too, but loses count at errors, where it is
 * needed.
 */
function positionsIn(text: string, start: number): (offset: number) => Position {
  const starts = [0]
  for (let i = text.indexOf('\n'); i >= 0; i = text.indexOf('\n', i + 1)) starts.push(i + 1)
  return (offset) => {
    const at = Math.min(Math.max(0, offset - start), text.length)
    let [low, high] = [0, starts.length]
    while (high - low > 1) {
      const middle = (low + high) >>> 1
      if (starts[middle]! <= at) low = middle
      else high = middle
    }
    return { line: low + 1, column: at - starts[low]! + 1 }
  }
}

/** Removes errors that follow from an earlier one: a single slip causes many that say nothing new. */
function withoutTrain(problems: readonly SyntaxProblem[]): SyntaxProblem[] {
  const sorted = [...problems].sort((a, b) => a.line - b.line || a.column - b.column)
  const lines = new Set<number>()
  return sorted.filter(({ line, message }, i) => {
    const said = lines.has(line) || (i > 0 && (message === NOT_YAML || message === EXPLANATIONS.BAD_INDENT))
    lines.add(line)
    return !said
  })
}

interface Aliases {
  readonly values: number
  readonly targets: ReadonlyMap<Alias, Node>
  /** Set if aliases expand to too many values, or refer to themselves. */
  readonly problem: { readonly offset: number; readonly message: string } | undefined
}

/** Resolves aliases. The size of an anchor is counted once, so that looking for a bomb does not set it off. */
function followAliases(document: Document): Aliases {
  const anchors = new Map<string, { node: Node; size: number }>()
  const targets = new Map<Alias, Node>()
  let problem: Aliases['problem']
  const sizeOf = (node: unknown): number => {
    if (isPair(node)) return sizeOf(node.key) + sizeOf(node.value)
    if (!isNode(node)) return 1
    const offset = node.range?.[0] ?? 0
    if (isAlias(node)) {
      const anchor = anchors.get(node.source)
      if (anchor === undefined) return 1
      targets.set(node, anchor.node)
      if (anchor.size > 0) return anchor.size
      problem ??= { offset, message: 'an alias refers to a value that contains it; write it out' }
      return 1
    }
    const anchor = { node, size: 0 }
    if (node.anchor !== undefined) anchors.set(node.anchor, anchor)
    let size = 1
    if (isCollection(node)) for (const item of node.items) size += sizeOf(item)
    anchor.size = size
    if (size > MAX_VALUES) {
      problem ??= { offset, message: `aliases make this ${TOO_MANY}` }
    }
    return size
  }
  const values = sizeOf(document.contents)
  return { targets, problem, values }
}

/**
 * Finds in milliseconds what would take the parser seconds: piles of brackets and dashes, and huge numbers of values.
 */
function findExcess(text: string): { offset: number; message: string } | undefined {
  let [offset, brackets, dashes, values] = [0, 0, 0, 0]
  let isScalar = false
  for (const token of new Lexer().lex(text)) {
    if (token === '\u001f') {
      isScalar = true
      continue
    }
    if (isScalar || token.startsWith('*')) values++
    else if (token === '[' || token === '{') brackets++
    else if (token === ']' || token === '}') brackets = Math.max(0, brackets - 1)
    else if (token === '-' || token === '?') dashes++
    else if (token.includes('\n')) dashes = 0
    isScalar = false
    if (brackets > MAX_DEPTH || dashes > MAX_DEPTH) return { offset, message: TOO_DEEP }
    if (values > MAX_VALUES) return { offset, message: `the file holds ${TOO_MANY}` }
    if (token !== '\u0002' && token !== '\u0018') offset += token.length
  }
  return undefined
}

/** Returns the offset of the first collection deeper than `most`. Walks the tokens with an explicit stack. */
function deeperThan(tokens: readonly CST.Token[], most: number): number | undefined {
  const stack: { token: CST.Token; depth: number }[] = tokens.map((token) => ({ token, depth: 0 })).reverse()
  for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
    const { token, depth } = next
    if (token.type === 'document') {
      if (token.value !== undefined) stack.push({ token: token.value, depth })
    } else if ('items' in token) {
      if (depth + 1 > most) return token.offset
      for (const item of token.items) {
        if (item.key) stack.push({ token: item.key, depth: depth + 1 })
        if (item.value) stack.push({ token: item.value, depth: depth + 1 })
      }
    }
  }
  return undefined
}

/** Describes a syntax error. The library's own messages quote the text, which may be a secret. */
function explain(code: ErrorCode, text: string, offset: number): string {
  const end = text.indexOf('\n', offset)
  const start = text.lastIndexOf('\n', Math.max(0, offset - 1)) + 1
  const line = text.slice(start, end < 0 ? text.length : end)
  // Inside [ ] and { }, a brace ends a plain scalar.
  if (/[{[,][^"']*\$\{/.test(line)) return `a "\${" inside { } or [ ] needs quotes; write "\${NAME}"`
  if (/^ *\t/.test(line)) return EXPLANATIONS.TAB_AS_INDENT!
  if (code === 'MISSING_CHAR' && /^[^:"'[\]{}]+$/.test(line)) return NO_KEY
  return EXPLANATIONS[code] ?? NOT_YAML
}

const NO_KEY =
  'not a key with a value, or a quote or bracket before it is still open; write "key: value", or close the quote or bracket'
const NOT_YAML = 'not valid YAML here; compare indentation, quotes and brackets with the lines around it'
const EXPLANATIONS: Partial<Record<ErrorCode, string>> = {
  TAB_AS_INDENT: 'a tab where YAML needs spaces; indent with spaces',
  BAD_INDENT:
    'the indentation fits none of the lines above; line it up with its neighbours, and close brackets',
  BAD_ALIAS: 'not a valid alias; write *name, or quote a value that begins with "*"',
  BAD_DQ_ESCAPE: 'not a valid escape in double quotes; use \\\\ for a backslash, or single quotes',
  BAD_SCALAR_START: 'a value cannot begin with this character; put it in quotes',
  BLOCK_AS_IMPLICIT_KEY:
    'two keys on one line; put the second on a line of its own, or quote a value that holds ": "',
  BLOCK_IN_FLOW: 'indented lines cannot stand inside { } or [ ]; use one of the two forms',
  MISSING_CHAR: 'a quote, bracket or comma is missing; close what is open before this place',
  MULTILINE_IMPLICIT_KEY: 'a key without a value; write "key: value", with a space after the colon',
  MULTIPLE_DOCS: 'a second document begins here; keep one, and remove the "---"',
  MULTIPLE_ANCHORS: 'two anchors on one value; keep one',
  MULTIPLE_TAGS: 'two tags on one value; remove them',
  TAG_RESOLVE_FAILED: 'tags are not supported here; remove it, or quote a value that begins with "!"',
  BAD_DIRECTIVE: 'directives are not supported here; remove the line',
}
