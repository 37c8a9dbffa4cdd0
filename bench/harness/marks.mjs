/** Prints each mark as HOLD or MISS. Returns whether all of them hold. */
export function printMarks(marks) {
  for (const { name, figure, holds } of marks) console.log(`${holds ? 'HOLD' : 'MISS'}  ${name}: ${figure}`)
  return marks.every(({ holds }) => holds)
}
