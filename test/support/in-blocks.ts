import { BlockList, isIPv6 } from 'node:net'

/** Returns true if a block of the address's own family holds it, by Node's own list: a model to hold ours to. */
export function isInBlocks(address: string, blocks: readonly string[]): boolean {
  const list = new BlockList()
  const family = (text: string) => (isIPv6(text) ? 'ipv6' : 'ipv4')
  for (const block of blocks) {
    const [network = '', length] = block.split('/')
    if (family(network) === family(address)) list.addSubnet(network, Number(length), family(network))
  }
  return list.check(address, family(address))
}
