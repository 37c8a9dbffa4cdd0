#!/usr/bin/env node
import { runCli } from './run-cli.js'

// `tidegate schema | head` closes the pipe early: nothing is wrong then.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
  process.exit()
})

// A disk that is full, or nobody who reads: a gateway goes on without what it would have said there.
process.stderr.on('error', () => {})

const { argv, stdout, stderr, env } = process
const code = await runCli(argv.slice(2), {
  stdout,
  stderr,
  env,
  cwd: process.cwd(),
  // Node opens it at the first look, and most commands read nothing.
  get stdin() {
    return process.stdin
  },
})
process.exitCode = code
// A start that failed half-way may have left something open that would keep the process.
if (code !== 0) stdout.write('', () => process.exit())
