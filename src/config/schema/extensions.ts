import { choice, duration, filePath, list, object, rawOptions, scalar } from './define.js'

/** Schema of extensions: own code in the way of a request. */

export const Extensions = list(
  object(
    {
      name: scalar('name', 'Name, for use, consumers, logs and metrics'),
      module: filePath('Module with the extension: .js, .mjs, or .ts with Node.js 22.18 or later', {
        examples: ['./extensions/fraud.ts'],
      }),
      'options?': rawOptions('Options of the extension, by the schema in its module'),
      timeout: duration('Longest time that an asynchronous hook may take', [1, 60_000], { default: '50ms' }),
      on_error: choice(
        ['deny', 'skip'],
        'Effect of a hook that throws, takes too long or returns a wrong value. deny: the gateway answers 503; skip: it goes on without the hook. identify always denies',
        { default: 'deny' },
      ),
    },
    'An extension',
  ),
  'Own code in the way of a request',
  { minItems: 1, maxItems: 64 },
)

export const use = list(
  scalar('name', 'Name of an extension'),
  'Extensions whose hooks run, in this order. Those of the service come before those of the route',
  { minItems: 1, maxItems: 16, examples: [['fraud']] },
)
