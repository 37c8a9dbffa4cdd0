// Before ioredis, which makes string methods slow.
import './fast-string-methods.js'

export * from 'ioredis'
