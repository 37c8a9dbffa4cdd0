// Upstreams of all services, as this gateway sees them.

import { ask } from './api.js'
import { note, section, serviceLink, show, table } from './elements.js'
import { number } from './figures.js'

export const view = {
  title: () => 'Upstreams',
  every: 5000,
  open(root) {
    return {
      async refresh(signal) {
        const { body } = await ask('/upstreams', { signal })
        show(root, section('As this gateway sees them', {}, ...upstreamsTable(body)))
      },
    }
  },
}

function upstreamsTable({ upstreams, services }) {
  const circuits = new Map(services.map(({ service, circuit }) => [service, circuit]))
  const heads = ['service', 'upstream', 'state', 'why', '>in flight', '>waiting', 'circuit']
  const rows = upstreams.map((one) => {
    const circuit = circuits.get(one.service) ?? ''
    return {
      key: `${one.service} ${one.address}`,
      cells: [
        serviceLink(one.service),
        [one.address, 'id'],
        [one.state.replace('_', ' '), one.state === 'serving' ? 'good' : 'bad'],
        [one.why ?? '', 'why'],
        `${number(one.in_flight)} of ${number(one.max_connections)}`,
        number(one.waiting),
        [circuit.replace('_', ' '), circuit === 'open' ? 'bad' : ''],
      ],
    }
  })
  const isServing = upstreams.filter(({ state }) => state === 'serving').length
  return [
    note(`${number(isServing)} of ${number(upstreams.length)} serve.`),
    table({ caption: 'Upstreams', heads, rows, none: 'There are no upstreams.' }),
  ]
}
