// An hour of `GET /history`, made up: a quiet morning, a partner's launch, one minute without the store, one deployment.

const EVERY = 10_000
const SLOTS = 360

/** Returns noise in 0…1 that is the same each time for the same number. */
function noise(n) {
  const x = Math.sin(n * 127.1) * 43_758.5453
  return x - Math.floor(x)
}

/**
 * Returns an answer of `GET /history`.
 *
 * @param now end of the hour, in Unix ms
 * @param since leaves out what began before, in ISO 8601; null for nothing
 */
export function madeUpHour(now, since) {
  const hour = wholeHour(Math.floor(now / EVERY) * EVERY)
  const isLater = ({ at }) => since === null || at >= since
  return { ...hour, samples: hour.samples.filter(isLater), events: hour.events.filter(isLater) }
}

function wholeHour(to) {
  const from = to - SLOTS * EVERY
  const at = (slot) => new Date(from + slot * EVERY).toISOString()
  const samples = Array.from({ length: SLOTS }, (_, i) => {
    const launch = Math.exp(-(((i - 215) / 34) ** 2))
    const base = 4100 + 600 * Math.sin(i / 47) + 350 * noise(i)
    const away = i >= 120 && i < 127
    const limited = Math.round(80 + 60 * noise(i + 1000) + launch * (2400 + 600 * noise(i + 2000)))
    const failing = i >= 286 && i < 292 ? 450 : 0
    return {
      at: at(i),
      gateways: i >= 178 && i < 181 ? 2 : 3,
      responses: {
        ok: Math.round(base + launch * 3200),
        client_error: Math.round(60 + 50 * noise(i + 3000)),
        limited: away ? 0 : limited,
        server_error: Math.round(noise(i + 4000) > 0.85 ? 12 : 0) + failing,
      },
      shed: i >= 216 && i < 221 ? 340 : 0,
      without_store: away ? Math.round(base) : 0,
      p50_ms: 5.6 + noise(i + 5000) + launch * 2,
      p95_ms: 14 + 5 * noise(i + 6000) + launch * 14 + (away ? 9 : 0),
      p99_ms: 41 + 22 * noise(i + 7000) + launch * 40 + (failing > 0 ? 60 : 0),
    }
  })
  const event = (slot, node, gateways, kind, text) => ({ at: at(slot), node, gateways, kind, text })
  return {
    from: new Date(from).toISOString(),
    to: new Date(to).toISOString(),
    every_ms: EVERY,
    nodes: { answered: 3, silent: [], problem: null },
    samples,
    events: [
      event(120, 'gw-fra-1', 3, 'degraded', 'Decides without the store'),
      event(127, 'gw-fra-1', 3, 'recovered', 'Decides with the store again'),
      event(181, 'gw-ams-1', 1, 'started', 'Gateway started, version 0.1.0'),
      event(
        252,
        'gw-fra-1',
        3,
        'config_applied',
        'Configuration applied: services.payments.limits.pro: 300/min -> 400/min',
      ),
    ],
  }
}
