import fc from 'fast-check'
import t from 'tap'
import { fit, visibleText, widthOf } from '../../../src/cli/print/display-width.js'
import { codePoint } from '../../support/code-point.js'

t.test('invisible characters are escaped, so nothing moves the cursor', async (t) => {
  t.equal(visibleText('plain-id_1'), 'plain-id_1')
  t.equal(visibleText('a\u001b[2Jb'), 'a\\u{1b}[2Jb')
  t.equal(visibleText('a\r\nb\u009b31m'), 'a\\u{d}\\u{a}b\\u{9b}31m')
  t.equal(visibleText('\u202egnp.exe\u200b'), '\\u{202e}gnp.exe\\u{200b}')
  t.equal(visibleText('\ud800x'), '\\u{d800}x')
  t.equal(visibleText('客戶 é'), '客戶 é')
  t.equal(visibleText(`e${'\u0301'.repeat(50)}!`), 'e\u0301\u0301…!')
  fc.assert(
    fc.property(fc.string({ unit: codePoint }), (text) => !/[\p{Cc}\p{Cf}\p{Cs}]/u.test(visibleText(text))),
  )
})

t.test('a text is measured as wide as a terminal shows it', async (t) => {
  for (const [text, width] of [
    ['', 0],
    ['abc', 3],
    ['客戶', 4],
    ['ﾊﾝ', 2],
    ['ＡＢ', 4],
    ['한국', 4],
    ['e\u0301', 1],
    ['🚀x', 3],
    ['é–…', 3],
  ] as const)
    t.equal(widthOf(text), width, text)
})

t.test('any text can be fitted exactly into a width', async (t) => {
  t.equal(fit('abc', 5), 'abc  ')
  t.equal(fit('abcdef', 4), 'abc…')
  t.equal(fit('客戶服務', 4), '客… ')
  t.equal(fit('客戶服務', 5), '客戶…')
  t.equal(fit('客戶', 4), '客戶')
  t.equal(fit('abc', 0), '')
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), fc.nat(20), (text, width) => {
      return widthOf(fit(visibleText(text), width)) === width
    }),
  )
})
