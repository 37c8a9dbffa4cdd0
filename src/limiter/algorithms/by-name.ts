import type { Algorithm as Name } from '../../config/schema/algorithms.js'
import type { Algorithm } from './algorithm.js'
import { calendar } from './calendar.js'
import { fixed } from './fixed.js'
import { sliding } from './sliding.js'
import { strict } from './strict.js'
import { tokenBucket } from './token-bucket.js'

export const ALGORITHMS: Readonly<Record<Name, Algorithm>> = {
  sliding,
  strict,
  token_bucket: tokenBucket,
  fixed,
  calendar,
  concurrency: strict,
}
