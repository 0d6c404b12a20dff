// A peer that obeys the lines of ../lines.md.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/ipfs/boxo/blockservice"
	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
)

// Its own queues hold 32 messages and drop the rest of a burst.
const queue = 1 << 16

type node struct {
	ctx    context.Context
	host   host.Host
	router *pubsub.PubSub
	secret []byte
	told   identities
	blocks blockservice.BlockService
	lock   sync.Mutex
	topics map[string]*pubsub.Topic
	leave  map[string]context.CancelFunc
	wanted map[string]uint64
	out    sync.Mutex
}

func (n *node) say(words ...any) {
	n.out.Lock()
	defer n.out.Unlock()
	fmt.Println(words...)
}

func (n *node) topic(name string) (*pubsub.Topic, error) {
	if topic, known := n.topics[name]; known {
		return topic, nil
	}
	topic, err := n.router.Join(name)
	if err == nil {
		n.topics[name] = topic
	}
	return topic, err
}

func (n *node) read(name string, ctx context.Context, messages *pubsub.Subscription) {
	var seen uint64
	for {
		message, err := messages.Next(ctx)
		if err != nil {
			messages.Cancel()
			n.say("unsubscribed", name)
			return
		}
		if message.GetFrom() == n.host.ID() {
			continue
		}
		n.lock.Lock()
		wanted := n.wanted[name]
		n.lock.Unlock()
		if wanted == 0 {
			n.say("message", name, message.GetFrom(), hex.EncodeToString(message.Data))
		} else if seen++; seen == wanted {
			n.say("counted", name, seen)
		}
	}
}

var naming = map[string]bool{
	"disconnect": true, "ping": true, "identify": true, "perf": true, "digest": true, "reset": true, "fetch": true,
}

// The peer that a command names, if it is one of those that do.
func (n *node) named(words []string) ([]string, peer.ID, error) {
	if !naming[words[0]] {
		return words, "", nil
	}
	id, err := peer.Decode(words[1])
	return words, id, err
}

func integers(words []string) ([]int64, error) {
	numbers := make([]int64, len(words))
	for index, word := range words {
		number, err := strconv.ParseInt(word, 10, 64)
		if err != nil {
			return nil, err
		}
		numbers[index] = number
	}
	return numbers, nil
}

func newRouter(ctx context.Context, h host.Host, version string) (*pubsub.PubSub, error) {
	options := []pubsub.Option{
		pubsub.WithMessageSignaturePolicy(pubsub.StrictSign),
		pubsub.WithPeerOutboundQueueSize(queue),
		pubsub.WithValidateQueueSize(queue),
	}
	switch version {
	case "floodsub":
		return pubsub.NewFloodSub(ctx, h, options...)
	case "":
	default:
		options = append(options, pubsub.WithGossipSubProtocols(
			[]protocol.ID{protocol.ID("/meshsub/" + version)}, pubsub.GossipSubDefaultFeatures))
	}
	return pubsub.NewGossipSub(ctx, h, append(options, pubsub.WithPeerExchange(true))...)
}

// What is offered to be agreed on by the handshake itself.
func offered(muxers []upgrader.StreamMuxer, early bool) []upgrader.StreamMuxer {
	if early {
		return muxers
	}
	return nil
}

var securities = map[string]func(early bool) libp2p.Option{
	"noise": func(early bool) libp2p.Option {
		return libp2p.Security(noise.ID, func(id protocol.ID, key crypto.PrivKey, muxers []upgrader.StreamMuxer) (*noise.Transport, error) {
			return noise.New(id, key, offered(muxers, early))
		})
	},
	"tls": func(early bool) libp2p.Option {
		return libp2p.Security(libp2ptls.ID, func(id protocol.ID, key crypto.PrivKey, muxers []upgrader.StreamMuxer) (*libp2ptls.Transport, error) {
			return libp2ptls.New(id, key, offered(muxers, early))
		})
	},
	"none": func(bool) libp2p.Option { return nothing }, // of QUIC, which has its own
}

// WebSockets, over TLS too where a folder holds the listener's certificate. SSL_CERT_FILE names whose certificates are believed.
func websockets(folder string) (libp2p.Option, error) {
	if folder == "" {
		return libp2p.Transport(websocket.New), nil
	}
	certificate, err := tls.LoadX509KeyPair(folder+"/certificate.pem", folder+"/key.pem")
	if err != nil {
		return nil, err
	}
	return libp2p.Transport(websocket.New, websocket.WithTLSConfig(&tls.Config{Certificates: []tls.Certificate{certificate}})), nil
}

var muxers = map[string]libp2p.Option{
	"yamux": libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
	"none":  nothing,
}

func nothing(*libp2p.Config) error { return nil }

var keyTypes = map[string]int{"ed25519": crypto.Ed25519, "rsa": crypto.RSA, "ecdsa": crypto.ECDSA, "secp256k1": crypto.Secp256k1}

// What is made of relays. A relay tries for others whether they are reached, too.
func relaying(role string) (libp2p.Option, error) {
	private := libp2p.ChainOptions(libp2p.EnableRelay(), libp2p.EnableHolePunching(), libp2p.ForceReachabilityPrivate())
	switch role {
	case "no":
		return libp2p.DisableRelay(), nil
	case "service":
		return libp2p.ChainOptions(libp2p.EnableRelayService(), libp2p.EnableAutoNATv2(), libp2p.ForceReachabilityPublic()), nil
	case "client":
		return private, nil
	}
	relay, err := peer.AddrInfoFromString(role)
	if err != nil {
		return nil, err
	}
	return libp2p.ChainOptions(private, libp2p.EnableAutoRelayWithStaticRelays([]peer.AddrInfo{*relay})), nil
}

func (n *node) obey(words []string) error {
	words, id, err := n.named(words)
	if err != nil {
		return err
	}
	switch words[0] {
	case "connect":
		info, err := peer.AddrInfoFromString(words[1])
		if err != nil {
			return err
		}
		return n.host.Connect(n.ctx, *info)
	case "disconnect":
		return n.host.Network().ClosePeer(id)
	case "ping":
		return n.ping(id)
	case "identify":
		return n.identify(id)
	case "handle":
		n.host.SetStreamHandler(protocol.ID(words[1]), func(s network.Stream) { _ = s.Reset() })
		n.say("handling", words[1])
	case "perf":
		numbers, err := integers(words[2:4])
		if err != nil {
			return err
		}
		return n.perf(id, numbers[0], numbers[1])
	case "digest":
		numbers, err := integers(words[3:5])
		if err != nil {
			return err
		}
		return n.digest(id, words[2], numbers[0], int(numbers[1]))
	case "reset":
		return n.reset(id)
	case "serve":
		return n.serve(words[1], words[2], words[3])
	case "fetch":
		return n.fetch(words[2], words[3])
	case "subscribe":
		topic, err := n.topic(words[1])
		if err != nil {
			return err
		}
		messages, err := topic.Subscribe(pubsub.WithBufferSize(queue))
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(n.ctx)
		n.leave[words[1]] = cancel
		go n.read(words[1], ctx, messages)
		n.say("subscribed", words[1])
	case "unsubscribe":
		n.leave[words[1]]()
	case "publish":
		topic, err := n.topic(words[1])
		if err != nil {
			return err
		}
		data, err := hex.DecodeString(words[2])
		if err != nil {
			return err
		}
		if err := topic.Publish(n.ctx, data); err != nil {
			return err
		}
		n.say("published", words[1])
	case "peers":
		var ids []string
		for _, id := range n.router.ListPeers(words[1]) {
			ids = append(ids, id.String())
		}
		n.say("peers", words[1], strings.Join(ids, ","))
	case "count":
		wanted, err := strconv.ParseUint(words[2], 10, 64)
		if err != nil {
			return err
		}
		n.lock.Lock()
		n.wanted[words[1]] = wanted
		n.lock.Unlock()
		n.say("counting", words[1])
	case "flood":
		topic, err := n.topic(words[1])
		if err != nil {
			return err
		}
		count, err := strconv.ParseUint(words[2], 10, 64)
		if err != nil {
			return err
		}
		size, err := strconv.Atoi(words[3])
		if err != nil {
			return err
		}
		for number := uint64(0); number < count; number++ {
			data := make([]byte, size)
			binary.BigEndian.PutUint64(data, number)
			if err := topic.Publish(n.ctx, data); err != nil {
				return err
			}
		}
		n.say("flooded", words[1], count)
	default:
		return fmt.Errorf("what is %s?", words[0])
	}
	return nil
}

func main() {
	for name, older := range map[string]bool{"IS_DIALER": false, "is_dialer": true} {
		if os.Getenv(name) != "" {
			if err := unified(older); err != nil {
				log.Fatal(err)
			}
			return
		}
	}
	listen := flag.String("listen", "", "multiaddrs, with blanks between them")
	keyType := flag.String("key", "ed25519", "type of the identity")
	version := flag.String("router", "", "floodsub, or the only version of gossipsub")
	bitswap := flag.String("bitswap", "", "the only version of bitswap")
	security := flag.String("security", "noise", "noise or tls")
	early := flag.String("early", "yes", "no: the muxer is agreed on afterwards")
	certificates := flag.String("certificates", "", "folder, of WebSockets over TLS")
	muxer := flag.String("muxer", "yamux", "yamux")
	relay := flag.String("relay", "no", "service, client, or the address of a relay to have a place at")
	secret := flag.String("secret", "", "of digests, in hexadecimal")
	flag.Parse()
	ctx := context.Background()
	key, _, err := crypto.GenerateKeyPair(keyTypes[*keyType], 2048)
	if err != nil {
		log.Fatal(err)
	}
	websocketOption, err := websockets(*certificates)
	if err != nil {
		log.Fatal(err)
	}
	relayOption, err := relaying(*relay)
	if err != nil {
		log.Fatal(err)
	}
	// It dials from the port it listens on. Two that a PRUNE names to each other dial at the same time; that can become one connection
	// (TCP's simultaneous open) on which both speak as the dialler, and neither tries again. Holes are punched that way.
	var reuse []any
	if *relay == "no" {
		reuse = append(reuse, tcp.DisableReuseport())
	}
	h, err := libp2p.New(
		libp2p.Identity(key),
		libp2p.ListenAddrStrings(strings.Fields(*listen)...),
		libp2p.Transport(tcp.NewTCPTransport, reuse...),
		websocketOption,
		libp2p.Transport(quic.NewTransport),
		securities[*security](*early != "no"),
		muxers[*muxer],
		relayOption,
		libp2p.ResourceManager(&network.NullResourceManager{}),
	)
	if err != nil {
		log.Fatal(err)
	}
	n := &node{
		ctx: ctx, host: h, topics: map[string]*pubsub.Topic{}, leave: map[string]context.CancelFunc{}, wanted: map[string]uint64{},
		told: identities{known: map[peer.ID]event.EvtPeerIdentificationCompleted{}},
	}
	h.Network().Notify(&network.NotifyBundle{
		ConnectedF: func(_ network.Network, c network.Conn) { n.say("connected", c.RemotePeer()) },
		DisconnectedF: func(net network.Network, c network.Conn) {
			if net.Connectedness(c.RemotePeer()) != network.Connected {
				n.say("disconnected", c.RemotePeer())
			}
		},
	})
	n.secret, err = hex.DecodeString(*secret)
	if err != nil {
		log.Fatal(err)
	}
	if err := n.learn(); err != nil {
		log.Fatal(err)
	}
	n.serveStreams()
	n.serveBlocks(*bitswap)
	n.router, err = newRouter(ctx, h, *version)
	if err != nil {
		log.Fatal(err)
	}
	n.say("ready", h.ID(), fmt.Sprintf("%s/p2p/%s", h.Addrs()[0], h.ID()))
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<22)
	for lines.Scan() {
		words := strings.Split(lines.Text(), " ")
		if words[0] == "quit" {
			break
		}
		if err := n.obey(words); err != nil {
			n.say("error", err)
		}
	}
	_ = h.Close()
}
