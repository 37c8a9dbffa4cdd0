/** Returns the statuses that `5xx` or `502` stands for: `5xx` is a hundred of them. */
export function statusesOf(text: string): readonly number[] {
  if (!text.endsWith('xx')) return [Number(text)]
  const first = Number(text[0]) * 100
  return Array.from({ length: 100 }, (_, i) => first + i)
}
