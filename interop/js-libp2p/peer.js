// A peer that obeys the lines of ../lines.md.
import { createHash } from 'node:crypto'
import { mkdir, open, readFile, readdir, stat } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { quic } from '@chainsafe/libp2p-quic'
import { withBitswap } from '@helia/bitswap'
import { withLibp2pLight } from '@helia/libp2p'
import { unixfs } from '@helia/unixfs'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { gossipsub } from '@libp2p/gossipsub'
import { identify, identifyPush } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { webSockets } from '@libp2p/websockets'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { MemoryBlockstore } from 'blockstore-core'
import { createHeliaLight } from 'helia'
import { fixedSize } from 'ipfs-unixfs-importer/chunker'
import { CID } from 'multiformats/cid'

const DIGEST = '/interop/digest/1.0.0'
const RESET = '/interop/reset/1.0.0'
const PERF = '/perf/1.0.0'
const PIECE = 64 * 1024
// Messages that are published before the network is served again.
const BURST = 16
const LOOK_MS = 10
// Of one protocol: its own bounds are 32 that come and 64 that go, a hundred are opened at the same time.
const STREAMS_MAX = 128
const PATIENCE_MS = 120_000

const { values: options } = parseArgs({
  options: {
    listen: { type: 'string' },
    security: { type: 'string', default: 'noise' },
    early: { type: 'string', default: 'yes' },
    certificates: { type: 'string' },
    muxer: { type: 'string', default: 'yamux' },
    key: { type: 'string', default: 'ed25519' },
    secret: { type: 'string', default: '' }
  }
})
const secret = Buffer.from(options.secret, 'hex')
const say = (...words) => process.stdout.write(words.join(' ') + '\n')

// With the muxer agreed on afterwards.
const late = (make) => (components) => {
  const security = make(components)
  for (const name of ['secureInbound', 'secureOutbound']) {
    const secure = security[name].bind(security)
    security[name] = (connection, how) => secure(connection, { ...how, skipStreamMuxerNegotiation: true })
  }
  return security
}

// QUIC has its own security and its own streams.
const secured = { noise: [noise], tls: [tls], none: [] }[options.security]
const muxers = { yamux: [yamux()], none: [] }[options.muxer]
// NODE_EXTRA_CA_CERTS names whose certificates are believed.
const https = options.certificates === undefined
  ? undefined
  : { key: await readFile(join(options.certificates, 'key.pem')), cert: await readFile(join(options.certificates, 'certificate.pem')) }
const keyType = { ed25519: 'Ed25519', rsa: 'RSA', secp256k1: 'secp256k1', ecdsa: 'ECDSA' }[options.key]
const helia = await withBitswap(withLibp2pLight(createHeliaLight({ blockstore: new MemoryBlockstore() }), {
  privateKey: await generateKeyPair(keyType),
  addresses: { listen: [options.listen] },
  transports: [tcp(), webSockets({ https }), quic()],
  connectionEncrypters: secured.map((make) => options.early === 'no' ? late(make()) : make()),
  streamMuxers: muxers,
  // On a busy machine a ping beside large streams takes longer than the two seconds after which it gives up a connection.
  connectionMonitor: { abortConnectionOnPingFailure: false },
  services: {
    identify: identify(),
    identifyPush: identifyPush(),
    ping: ping(),
    pubsub: gossipsub({ globalSignaturePolicy: 'StrictSign', doPX: true, scoreThresholds: { acceptPXThreshold: 0 }, allowPublishToZeroTopicPeers: true })
  }
})).start()
const node = helia.libp2p
const files = unixfs(helia)
const { pubsub } = node.services

// Messages that are still to come, by topic.
const missing = new Map()
// What identify told, by peer.
const told = new Map()

pubsub.addEventListener('gossipsub:message', ({ detail: { msg } }) => {
  const left = missing.get(msg.topic)
  if (left === undefined) {
    say('message', msg.topic, msg.from, Buffer.from(msg.data).toString('hex'))
    return
  }
  missing.set(msg.topic, { ...left, left: left.left - 1 })
  if (left.left === 1) say('counted', msg.topic, left.wanted)
})
node.addEventListener('peer:connect', ({ detail }) => say('connected', detail))
node.addEventListener('peer:disconnect', ({ detail }) => say('disconnected', detail))
node.addEventListener('peer:identify', ({ detail }) => told.set(detail.peerId.toString(), { ...told.get(detail.peerId.toString()), ...detail }))

const peerOf = (name) => node.getPeers().find((peer) => peer.toString() === name)
const openStream = (peer, protocol) => node.dialProtocol(peerOf(peer), protocol, { signal: AbortSignal.timeout(PATIENCE_MS) })

// Calls back with each piece until the peer has ended its side. Its own iterator never ends when that was before it began.
const read = (stream, take) => new Promise((resolve, reject) => {
  const look = setInterval(() => {
    if (stream.remoteWriteStatus === 'closed' && stream.readBufferLength === 0) settle()
  }, LOOK_MS)
  const settle = (error) => { clearInterval(look); error == null ? resolve() : reject(error) }
  stream.addEventListener('message', ({ data }) => take(data.subarray()))
  stream.addEventListener('close', ({ error }) => settle(error))
})

const readAll = async (stream) => {
  const pieces = []
  await read(stream, (piece) => pieces.push(piece))
  return Buffer.concat(pieces)
}

const write = async (stream, data) => { if (!stream.send(data)) await stream.onDrain() }

const writeZeros = async (stream, size) => {
  for (let left = size; left > 0; left -= PIECE) await write(stream, new Uint8Array(Math.min(left, PIECE)))
}

// Of itself it waits five seconds for what is still to go.
const end = (stream) => stream.close({ signal: AbortSignal.timeout(PATIENCE_MS) })

const digestOf = async (peer, name, size) => {
  const stream = await openStream(peer, DIGEST)
  const answer = readAll(stream)
  for (let block = 0; block * PIECE < size; block++) {
    const hash = createHash('sha256').update(`${name}/${block}`).digest()
    const piece = Buffer.concat(Array(PIECE / hash.length).fill(hash))
    await write(stream, piece.subarray(0, size - block * PIECE))
  }
  await end(stream)
  return (await answer).toString('hex')
}

await node.handle(DIGEST, async (stream) => {
  const hash = createHash('sha256').update(secret)
  await read(stream, (piece) => hash.update(piece))
  await write(stream, hash.digest())
  await end(stream)
}, { maxInboundStreams: STREAMS_MAX, maxOutboundStreams: STREAMS_MAX })

await node.handle(RESET, (stream, connection) => {
  const was = () => say('was', connection.remotePeer, stream.status === 'reset' ? 'reset' : 'ended')
  for (const event of ['close', 'remoteCloseWrite']) stream.addEventListener(event, was)
  stream.addEventListener('message', () => write(stream, Uint8Array.from([1])), { once: true })
})

await node.handle(PERF, async (stream, connection) => {
  let [head, count] = [Buffer.alloc(0), 0]
  await read(stream, (piece) => {
    if (head.length < 8) head = Buffer.concat([head, piece.subarray(0, 8 - head.length)])
    count += piece.length
  })
  const wanted = Number(head.readBigUInt64BE())
  await writeZeros(stream, wanted)
  await end(stream)
  say('served-perf', connection.remotePeer, count - 8, wanted)
})

async function * candidates (root, below = '') {
  for (const entry of await readdir(join(root, below), { withFileTypes: true })) {
    const path = join(below, entry.name)
    if (entry.isDirectory()) yield * candidates(root, path)
    else yield { path, content: await readFile(join(root, path)) }
  }
}

const writeTo = async (cid, path) => {
  if ((await files.stat(cid)).type === 'directory') {
    await mkdir(path)
    for await (const entry of files.ls(cid)) await writeTo(entry.cid, join(path, entry.name))
    return
  }
  const file = await open(path, 'w')
  for await (const piece of files.cat(cid)) await file.write(piece)
  await file.close()
}

const commands = {
  connect: (address) => node.dial(multiaddr(address)),
  disconnect: (peer) => node.hangUp(peerOf(peer)),
  subscribe: (topic) => { pubsub.subscribe(topic); say('subscribed', topic) },
  unsubscribe: (topic) => { pubsub.unsubscribe(topic); say('unsubscribed', topic) },
  publish: async (topic, data) => { await pubsub.publish(topic, Buffer.from(data, 'hex')); say('published', topic) },
  peers: (topic) => say('peers', topic, pubsub.getSubscribers(topic).join(',')),
  count: (topic, wanted) => { missing.set(topic, { wanted, left: Number(wanted) }); say('counting', topic) },
  flood: async (topic, count, size) => {
    for (let number = 0; number < Number(count); number++) {
      const data = Buffer.alloc(Number(size))
      data.writeBigUInt64BE(BigInt(number))
      await pubsub.publish(topic, data)
      if (number % BURST === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    say('flooded', topic, count)
  },
  ping: async (peer) => say('pong', peer, await node.services.ping.ping(peerOf(peer))),
  identify: async (peer) => {
    const known = told.get(peer)
    if (known === undefined) return say('unidentified', peer)
    const { protocols } = await node.peerStore.get(peerOf(peer))
    const record = known.signedPeerRecord == null ? 'plain' : 'signed'
    say('identified', peer, (known.agentVersion ?? '-').replaceAll(' ', '_'), known.observedAddr ?? '-', record, protocols.join(','))
  },
  handle: async (protocol) => { await node.handle(protocol, (stream) => stream.abort(new Error('refused'))); say('handling', protocol) },
  perf: async (peer, up, down) => {
    const stream = await openStream(peer, PERF)
    let received = 0
    const answer = read(stream, (piece) => { received += piece.length })
    const head = Buffer.alloc(8)
    head.writeBigUInt64BE(BigInt(down))
    await write(stream, head)
    await writeZeros(stream, Number(up))
    await end(stream)
    await answer
    say('performed', peer, up, received)
  },
  digest: async (peer, name, size, count) => {
    const all = Array.from({ length: Number(count) }, (_, index) => digestOf(peer, `${name}-${index}`, Number(size)))
    say('digests', peer, (await Promise.all(all)).join(','))
  },
  reset: async (peer) => {
    const stream = await openStream(peer, RESET)
    const answer = new Promise((resolve) => stream.addEventListener('message', resolve, { once: true }))
    await write(stream, Buffer.from('x'))
    await answer
    stream.abort(new Error('reset'))
    say('resetting', peer)
  },
  serve: async (path, version, chunk) => {
    const how = { cidVersion: Number(version), rawLeaves: version === '1', chunker: fixedSize({ chunkSize: Number(chunk) }) }
    if (!(await stat(path)).isDirectory()) return say('serving', await files.addBytes(await readFile(path), how))
    let root
    for await (const added of files.addAll(candidates(path), { ...how, wrapWithDirectory: true })) root = added.cid
    say('serving', root)
  },
  fetch: async (peer, root, path) => { await writeTo(CID.parse(root), path); say('fetched', root) },
  quit: async () => { await node.stop(); process.exit(0) }
}

say('ready', node.peerId, node.getMultiaddrs()[0])
for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...words] = line.split(' ')
  try {
    await commands[name](...words)
  } catch (error) {
    say('error', `${error.name}: ${error.message}`.replaceAll('\n', ' '))
  }
}
await commands.quit()
