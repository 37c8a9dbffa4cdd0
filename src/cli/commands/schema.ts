import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { learnModule } from '../../config/load/extension-options.js'
import { jsonSchema } from '../../config/schema/json-schema.js'
import type { SchemaNode } from '../../config/schema/node.js'
import { JSON_OPTION, Refused } from '../command.js'
import { CONFIG_OPTION, readGoodConfig } from '../config-file.js'
import { defineCommand } from '../define-command.js'
import { printJson } from '../print/terminal.js'

export const command = defineCommand({
  name: 'schema',
  usage: ['[--config FILE]'],
  about: `Prints the JSON schema of the configuration, for editors and other tools:

  tidegate schema > tidegate.schema.json

Then write this in the first line of the configuration:

  # yaml-language-server: $schema=./tidegate.schema.json

With --config, it also has the options of the extensions in this file, whose modules are loaded.`,
  options: {
    config: { ...CONFIG_OPTION, help: 'a configuration with extensions' },
    // The command prints JSON only. The option exists because every command that prints data has it.
    json: JSON_OPTION,
  },
  async run({ config }, _, io) {
    if (config === undefined) {
      io.stdout.write(readFileSync(new URL('../../../config/schema.json', import.meta.url)))
      return 0
    }
    const { extensions = [] } = readGoodConfig(io, config)
    const options = new Map<string, SchemaNode>()
    for (const { name, module } of extensions) {
      const learned = await learnModule(resolve(module))
      if ('problem' in learned) throw new Refused(`the extension ${name}: ${learned.problem}`)
      options.set(name, learned.options)
    }
    printJson(io, jsonSchema(options))
    return 0
  },
})
