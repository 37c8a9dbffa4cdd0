import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { FastifyInstance } from 'fastify'

/** Served without a token: there is nothing in it. What it shows it asks for with the token that its reader types in. */
export const PAGE = '/'

/** Each after those that it imports from. They become one script: what they import and export is left out. */
const SCRIPTS = ['figures.js', 'elements.js', 'traffic.js', 'lists.js', 'page.js']

/** One file with everything in it. Its own script and style are all that a browser may run, by their hashes. */
export function pageRoutes(app: FastifyInstance): void {
  const style = part('page.css')
  const script = SCRIPTS.map((name) => bare(part(name))).join('')
  // Functions, since what stands in for it may hold a `$`.
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

/** A CSP source: W3C CSP3 §2.3.1. */
function hashOf(text: string): string {
  return `sha256-${createHash('sha256').update(text).digest('base64')}`
}
