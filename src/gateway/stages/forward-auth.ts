import type { Exchange } from '../exchange/exchange.js'
import { type Asking, askService, type Ending } from '../identify/forward.js'

/** Creates the stage that asks the service of the route, if it has one, unless that has decided on the request already. */
export function checkForward(auth: Asking | undefined) {
  return function checkForward(x: Exchange): Ending | Promise<Ending> {
    const check = x.route!.auth?.forward
    if (check === undefined || check === x.authBy) return undefined
    const identifies = check.identity !== undefined && x.identifiedBy === 'ip'
    return askService(x, check, auth, identifies)
  }
}
