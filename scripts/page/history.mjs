// An hour of `GET /history`, made up: a quiet morning, a partner's launch, one minute without the store, one deployment.

const EVERY = 10_000
const SLOTS = 360

/** Returns noise in 0…1 that is the same each time for the same number. */
function noise(n) {
  const x = Math.sin(n * 127.1) * 43_758.5453
  return x - Math.floor(x)
}

/**
 * Returns an answer of `GET /history?of=fleet`.
 *
 * @param now end of the hour, in Unix ms
 */
export function madeUpHour(now) {
  const to = Math.floor(now / EVERY) * EVERY
  const from = to - SLOTS * EVERY
  const at = (slot) => new Date(from + slot * EVERY).toISOString()
  const samples = Array.from({ length: SLOTS }, (_, i) => {
    const launch = Math.exp(-(((i - 215) / 34) ** 2))
    const base = 410 + 60 * Math.sin(i / 47) + 35 * noise(i)
    const away = i >= 120 && i < 127
    const limited = Math.round(8 + 6 * noise(i + 1000) + launch * (240 + 60 * noise(i + 2000)))
    const failing = i >= 286 && i < 292 ? 45 : 0
    return {
      at: at(i),
      gateways: i >= 178 && i < 181 ? 2 : 3,
      responses: {
        ok: Math.round(base + launch * 320),
        client_error: Math.round(6 + 5 * noise(i + 3000)),
        limited: away ? 0 : limited,
        server_error: Math.round(noise(i + 4000) > 0.85 ? 2 : 0) + failing,
      },
      shed: i >= 216 && i < 221 ? 34 : 0,
      without_store: away ? Math.round(base) : 0,
      p50_ms: 5.6 + noise(i + 5000) + launch * 2,
      p95_ms: 14 + 5 * noise(i + 6000) + launch * 14 + (away ? 9 : 0),
      p99_ms: 41 + 22 * noise(i + 7000) + launch * 40 + (failing > 0 ? 60 : 0),
    }
  })
  const event = (slot, node, kind, text) => ({ at: at(slot), node, kind, text })
  return {
    from: new Date(from).toISOString(),
    to: new Date(to).toISOString(),
    every_ms: EVERY,
    nodes: { answered: 3, silent: [], problem: null },
    samples,
    events: [
      event(120, 'gw-fra-1', 'degraded', 'decided without the store for 70 s'),
      event(181, 'gw-ams-1', 'started', 'started, version 0.1.0'),
      event(252, 'gw-fra-1', 'applied', 'configuration 0a361bcc484e applied: services.payments.limits.pro'),
    ],
  }
}
