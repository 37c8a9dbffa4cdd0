import { ANSWERS, LOOKUPS, type SourceState } from '../../tier-sources/source.js'
import type { Families } from './metric-definitions.js'

/** Updates the metrics of the tier sources. Those of a source that the configuration has dropped stay as they were. */
export function showTierSources(families: Families, sources: Iterable<SourceState>): void {
  families.tierSourceUp.clear()
  families.tierSourceRemembered.clear()
  for (const { source, up, counts, remembered } of sources) {
    families.tierSourceUp.set(up ? 1 : 0, source)
    families.tierSourceRemembered.set(remembered, source)
    for (const result of LOOKUPS) families.tierLookups.set(counts.lookups[result], source, result)
    for (const result of ANSWERS) families.tierQuestions.set(counts.questions[result], source, result)
    families.tierUnknown.set(counts.unknownTiers, source)
    families.tierProtocolErrors.set(counts.protocolErrors, source)
  }
}
