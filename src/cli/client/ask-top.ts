import type { TopAnswer } from '../../admin/routes/top.js'
import type { Dimension } from '../../telemetry/top/top.js'
import type { Control } from './admin-client.js'

export interface TopWhat {
  readonly by: Dimension
  readonly service: string | undefined
  readonly tier: string | undefined
}

export function askTop(control: Control, { by, service, tier }: TopWhat, rows: number): Promise<TopAnswer> {
  const query = new URLSearchParams({ by, n: String(rows) })
  if (service !== undefined) query.set('service', service)
  if (tier !== undefined) query.set('tier', tier)
  return control.call<TopAnswer>('GET', `/top?${query}`)
}
