// A peer that speaks gossipsub and obeys the lines of ../README.md.
import { createInterface } from 'node:readline'
import { gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

// Messages that are published before the network is served again.
const BURST = 16

// Node before 22 has none.
Promise.withResolvers ??= function () {
  let resolve, reject
  const promise = new this((a, b) => { resolve = a; reject = b })
  return { promise, resolve, reject }
}

const say = (...words) => process.stdout.write(words.join(' ') + '\n')

const node = await createLibp2p({
  addresses: { listen: [process.argv[3]] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: {
    identify: identify(),
    pubsub: gossipsub({ globalSignaturePolicy: 'StrictSign', doPX: true, scoreThresholds: { acceptPXThreshold: 0 }, allowPublishToZeroTopicPeers: true })
  }
})
const { pubsub } = node.services

// Messages that are still to come, by topic.
const missing = new Map()

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

const connectionOf = (name) => node.getPeers().find((peer) => peer.toString() === name)

const commands = {
  connect: (address) => node.dial(multiaddr(address)),
  disconnect: (peer) => node.hangUp(connectionOf(peer)),
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
  quit: async () => { await node.stop(); process.exit(0) }
}

say('ready', node.peerId, node.getMultiaddrs()[0])
for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...words] = line.split(' ')
  try {
    await commands[name](...words)
  } catch (error) {
    say('error', error.message)
  }
}
await commands.quit()
