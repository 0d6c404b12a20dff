// A peer that speaks gossipsub and obeys the lines of ../README.md.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
)

// Its own queues hold 32 messages and drop the rest of a burst.
const queue = 1 << 16

type node struct {
	ctx    context.Context
	host   host.Host
	router *pubsub.PubSub
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

func (n *node) obey(words []string) error {
	switch words[0] {
	case "connect":
		info, err := peer.AddrInfoFromString(words[1])
		if err != nil {
			return err
		}
		return n.host.Connect(n.ctx, *info)
	case "disconnect":
		id, err := peer.Decode(words[1])
		if err != nil {
			return err
		}
		return n.host.Network().ClosePeer(id)
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
	if len(os.Args) != 3 || os.Args[1] != "--listen" {
		log.Fatal("--listen ADDRESS")
	}
	ctx := context.Background()
	h, err := libp2p.New(
		libp2p.ListenAddrStrings(os.Args[2]),
		// It dials from the port it listens on. Two that a PRUNE names to each other dial at the same time; that can become one
		// connection (TCP's simultaneous open) on which both speak as the dialler, and neither tries again.
		libp2p.Transport(tcp.NewTCPTransport, tcp.DisableReuseport()),
		libp2p.Security(noise.ID, noise.New),
		libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.DisableRelay(),
		libp2p.ResourceManager(&network.NullResourceManager{}),
	)
	if err != nil {
		log.Fatal(err)
	}
	n := &node{
		ctx: ctx, host: h, topics: map[string]*pubsub.Topic{}, leave: map[string]context.CancelFunc{}, wanted: map[string]uint64{},
	}
	h.Network().Notify(&network.NotifyBundle{
		ConnectedF: func(_ network.Network, c network.Conn) { n.say("connected", c.RemotePeer()) },
		DisconnectedF: func(net network.Network, c network.Conn) {
			if net.Connectedness(c.RemotePeer()) != network.Connected {
				n.say("disconnected", c.RemotePeer())
			}
		},
	})
	n.router, err = pubsub.NewGossipSub(ctx, h,
		pubsub.WithMessageSignaturePolicy(pubsub.StrictSign),
		pubsub.WithPeerOutboundQueueSize(queue),
		pubsub.WithValidateQueueSize(queue),
		pubsub.WithPeerExchange(true),
	)
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
