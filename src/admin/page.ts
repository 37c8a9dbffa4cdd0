import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { extname } from 'node:path'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'

/** Path of the page. */
export const PAGE = '/'

/**
 * Routes served without a token: they contain no data. The page fetches data with the token that its reader types in.
 */
export const PAGE_ROUTES: ReadonlySet<string> = new Set([PAGE, '/page/:file'])

const FOLDER = new URL('./page/', import.meta.url)
const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
}

/** Lets the page run its own files only, connect to its own server only, and set texts but no markup. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  'img-src data:',
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join('; ')

interface FileOf {
  readonly Params: { readonly file: string }
}

interface PageFile {
  readonly text: string
  readonly headers: Readonly<Record<string, string>>
}

/** Adds the page: `index.html` and the files beside it, as they are when the server starts. */
export function pageRoutes(app: FastifyInstance): void {
  const files = new Map(readdirSync(FOLDER).map((name) => [name, readFile(name)]))

  function send(request: FastifyRequest, reply: FastifyReply, name: string) {
    const file = files.get(name)
    if (file === undefined) return reply.callNotFound()
    reply.headers(file.headers)
    if (request.headers['if-none-match'] === file.headers.etag) return reply.code(304).send()
    return reply.send(file.text)
  }

  app.get('/', (request, reply) => send(request, reply, 'index.html'))
  app.get<FileOf>('/page/:file', (request, reply) => send(request, reply, request.params.file))
}

function readFile(name: string): PageFile {
  const text = readFileSync(new URL(name, FOLDER), 'utf8')
  const headers = {
    'cache-control': 'no-cache',
    'content-security-policy': POLICY,
    'content-type': TYPES[extname(name)] ?? 'text/plain; charset=utf-8',
    'cross-origin-opener-policy': 'same-origin',
    'cross-origin-resource-policy': 'same-origin',
    etag: `"${createHash('sha256').update(text).digest('base64url').slice(0, 22)}"`,
    'referrer-policy': 'no-referrer',
  }
  return { text, headers }
}
