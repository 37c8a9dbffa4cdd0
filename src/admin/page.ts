import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { FastifyInstance } from 'fastify'

/**
 * Path of the page, served without a token: it contains no data. The page fetches data with the token that its reader
 * types in.
 */
export const PAGE = '/'

/**
 * Scripts, each after those that it imports from. They are joined into one script, without their imports and exports.
 */
const SCRIPTS = ['figures.js', 'elements.js', 'traffic.js', 'lists.js', 'page.js']

/**
 * Adds the page: one file with everything in it. The content security policy lets a browser run only its own script and
 * style, by their hashes.
 */
export function pageRoutes(app: FastifyInstance): void {
  const style = part('page.css')
  const script = SCRIPTS.map((name) => bare(part(name))).join('')
  // Functions, since a replacement string could contain a `$`.
  const html = part('index.html')
    .replace('/* style */', () => style)
    .replace('/* script */', () => script)
  const policy = [
    "default-src 'none'",
    `script-src '${hashOf(script)}'`,
    `style-src '${hashOf(style)}'`,
    "connect-src 'self'",
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join('; ')

  app.get('/', async (_request, reply) => {
    reply.headers({
      'content-security-policy': policy,
      'content-type': 'text/html; charset=utf-8',
      'cross-origin-opener-policy': 'same-origin',
      'referrer-policy': 'no-referrer',
    })
    return html
  })
}

function bare(script: string): string {
  return script.replace(/^import \{[^}]*\} from .*\n/gm, '').replace(/^export /gm, '')
}

function part(name: string): string {
  return readFileSync(new URL(`./page/${name}`, import.meta.url), 'utf8')
}

/** Returns a CSP hash source (W3C CSP3 §2.3.1). */
function hashOf(text: string): string {
  return `sha256-${createHash('sha256').update(text).digest('base64')}`
}
