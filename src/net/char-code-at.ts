/**
 * Returns the UTF-16 unit of a text at an index from 0 to its length - 1, as `text.charCodeAt(i)` does, for loops over
 * the texts of requests. Those come in many forms inside V8: parts of a received text, joined ones, constants. A method
 * call on a value of more than four forms looks the method up again for each character, which takes three times as long.
 */
export const charCodeAt: (text: string, i: number) => number = Function.prototype.call.bind(
  String.prototype.charCodeAt,
)
