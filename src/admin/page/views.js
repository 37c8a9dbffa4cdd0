// The views, in the order of the navigation. A view without `nav` is reached by links only.

import { view as overview } from './overview.js'
import { view as upstreams } from './upstreams.js'

export const VIEWS = [
  { name: '', nav: 'Overview', view: overview },
  { name: 'upstreams', nav: 'Upstreams', view: upstreams },
]
