package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
)

var listens = map[string]string{"tcp": "/ip4/%s/tcp/0", "ws": "/ip4/%s/tcp/0/ws", "quic-v1": "/ip4/%s/udp/0/quic-v1"}

// Everything comes by environment variables, by the contract of libp2p/unified-testing or the older one of test-plans.
func unified(older bool) error {
	get := func(newer, old string) string {
		if older {
			return os.Getenv(old)
		}
		return os.Getenv(newer)
	}
	key := os.Getenv("TEST_KEY") + "_listener_multiaddr"
	if older {
		key = "listenerAddr"
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	options := []libp2p.Option{
		securities[cmp.Or(get("SECURE_CHANNEL", "security"), "none")](true), // QUIC comes without
		muxers[cmp.Or(get("MUXER", "muxer"), "none")],
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Transport(websocket.New),
		libp2p.Transport(quic.NewTransport),
		libp2p.DisableRelay(),
		libp2p.ResourceManager(&network.NullResourceManager{}),
	}
	dials := get("IS_DIALER", "is_dialer") == "true"
	if dials {
		options = append(options, libp2p.NoListenAddrs)
	} else {
		listen := fmt.Sprintf(listens[get("TRANSPORT", "transport")], get("LISTENER_IP", "ip"))
		options = append(options, libp2p.ListenAddrStrings(listen))
	}
	h, err := libp2p.New(options...)
	if err != nil {
		return err
	}
	defer h.Close()
	redis, err := net.Dial("tcp", get("REDIS_ADDR", "redis_addr"))
	if err != nil {
		return err
	}
	(&node{ctx: ctx, host: h}).serveStreams()
	if !dials {
		address := fmt.Sprintf("%s/p2p/%s", h.Addrs()[0], h.ID())
		if _, err := ask(redis, "RPUSH", key, address); err != nil {
			return err
		}
		<-ctx.Done()
		return errors.New("nobody has ended us")
	}
	found, err := ask(redis, "BLPOP", key, "60")
	if err != nil {
		return err
	}
	info, err := peer.AddrInfoFromString(found[1])
	if err != nil {
		return err
	}
	started := time.Now()
	if err := h.Connect(ctx, *info); err != nil {
		return err
	}
	pongs := ping.Ping(ctx, h, info.ID)
	if first := <-pongs; first.Error != nil {
		return first.Error
	}
	handshake := float64(time.Since(started).Microseconds()) / 1000
	second := <-pongs
	if second.Error != nil {
		return second.Error
	}
	rtt := float64(second.RTT.Microseconds()) / 1000
	if older {
		fmt.Printf("{\"handshakePlusOneRTTMillis\":%f,\"pingRTTMilllis\":%f}\n", handshake, rtt)
	} else {
		fmt.Printf("latency:\n  handshake_plus_one_rtt: %f\n  ping_rtt: %f\n  unit: ms\n", handshake, rtt)
	}
	return nil
}

// One command of RESP, and the bulk strings of the answer.
func ask(redis net.Conn, words ...string) ([]string, error) {
	fmt.Fprintf(redis, "*%d\r\n", len(words))
	for _, word := range words {
		fmt.Fprintf(redis, "$%d\r\n%s\r\n", len(word), word)
	}
	lines := bufio.NewScanner(redis)
	if !lines.Scan() {
		return nil, lines.Err()
	}
	head := lines.Text()
	if !strings.HasPrefix(head, "*") {
		return []string{head}, nil
	}
	count, err := strconv.Atoi(head[1:])
	found := []string{}
	for len(found) < count && lines.Scan() && lines.Scan() {
		found = append(found, lines.Text())
	}
	return found, err
}
