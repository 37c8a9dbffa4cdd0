#!/usr/bin/env node
import { runCli } from './run-cli.js'

// `tidegate schema | head` closes the pipe early, which is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
  process.exit()
})

// A full disk or a closed stderr must not stop a gateway: it goes on without these messages.
process.stderr.on('error', () => {})

const { argv, stdout, stderr, env } = process
const code = await runCli(argv.slice(2), {
  stdout,
  stderr,
  env,
  cwd: process.cwd(),
  // Node opens stdin at the first access, and most commands read nothing.
  get stdin() {
    return process.stdin
  },
})
process.exitCode = code
// A failed start, or an extension that a command created, may have left something open that would keep the process alive.
stdout.write('', () => process.exit())
