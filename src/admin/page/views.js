// The views, in the order of the navigation. A view without `nav` is reached by links only.

import { view as config } from './config.js'
import { view as consumer } from './consumer.js'
import { view as fleet } from './fleet.js'
import { view as limits } from './limits.js'
import { view as overview } from './overview.js'
import { view as upstreams } from './upstreams.js'
import { view as why } from './why.js'

export const VIEWS = [
  { name: '', nav: 'Overview', view: overview },
  { name: 'limits', nav: 'Limits', view: limits },
  { name: 'upstreams', nav: 'Upstreams', view: upstreams },
  { name: 'config', nav: 'Configuration', view: config },
  { name: 'fleet', nav: 'Fleet', view: fleet },
  { name: 'consumer', view: consumer },
  { name: 'why', view: why },
]
