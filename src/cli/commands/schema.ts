import { readFileSync } from 'node:fs'
import { JSON_OPTION } from '../command.js'
import { defineCommand } from '../define-command.js'

export const command = defineCommand({
  name: 'schema',
  usage: [],
  about: `Prints the JSON schema of the configuration, for editors and other tools:

  tidegate schema > tidegate.schema.json

Then write this in the first line of the configuration:

  # yaml-language-server: $schema=./tidegate.schema.json`,
  // The command prints JSON only. The option exists because every command that prints data has it.
  options: { json: JSON_OPTION },
  async run(_, __, { stdout }) {
    stdout.write(readFileSync(new URL('../../../config/schema.json', import.meta.url)))
    return 0
  },
})
