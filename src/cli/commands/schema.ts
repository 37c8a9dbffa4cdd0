import { readFileSync } from 'node:fs'
import { defineCommand } from '../command.js'

export const command = defineCommand({
  name: 'schema',
  help: `Usage: tidegate schema

Prints the JSON schema of the configuration, for editors and other tools:

  tidegate schema > tidegate.schema.json

and in the first line of the configuration:

  # yaml-language-server: $schema=./tidegate.schema.json`,
  // The command prints JSON only. The option exists because every command that prints data has it.
  options: { json: { type: 'boolean' } },
  async run(_, { stdout }) {
    stdout.write(readFileSync(new URL('../../../config/schema.json', import.meta.url)))
    return 0
  },
})
