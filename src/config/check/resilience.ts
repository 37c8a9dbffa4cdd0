import type { DraftConfig, Report } from '../schema/partial-config.js'

/** Checks retries, circuit breakers and concurrency limits beyond the schema. */
export function checkResilience({ services, server }: DraftConfig, error: Report): void {
  for (const [name, service] of Object.entries(services ?? {})) {
    const { min, max, initial } = service?.concurrency ?? {}
    const path = ['services', name, 'concurrency']
    if (min === undefined || max === undefined) continue
    if (min > max) error([...path, 'min'], `${min} is above its max, ${max}; raise max, or lower this`)
    else if (initial !== undefined && (initial < min || initial > max)) {
      const wrong = `${initial} is not between min, ${min}, and max, ${max}`
      error([...path, 'initial'], `${wrong}; write a number between`)
    }
  }
  const { heap = 0, exit_heap: exit = 0 } = server?.shed ?? {}
  if (exit > 0 && exit <= heap) {
    const wrong = `${exit} is not above heap, ${heap}, so the gateway would exit before it sheds`
    error(['server', 'shed', 'exit_heap'], `${wrong}; raise it, or write 0`)
  }
}
