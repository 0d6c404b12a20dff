package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
)

const (
	digestProtocol = "/interop/digest/1.0.0"
	resetProtocol  = "/interop/reset/1.0.0"
	perfProtocol   = "/perf/1.0.0"
	patience       = 2 * time.Minute
)

// What identify told of each peer.
type identities struct {
	lock  sync.Mutex
	known map[peer.ID]event.EvtPeerIdentificationCompleted
}

func (n *node) learn() error {
	events, err := n.host.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted))
	if err != nil {
		return err
	}
	go func() {
		for some := range events.Out() {
			told := some.(event.EvtPeerIdentificationCompleted)
			n.told.lock.Lock()
			n.told.known[told.Peer] = told
			n.told.lock.Unlock()
		}
	}()
	return nil
}

func (n *node) identify(id peer.ID) error {
	n.told.lock.Lock()
	told, known := n.told.known[id]
	n.told.lock.Unlock()
	if !known {
		n.say("unidentified", id)
		return nil
	}
	record := "plain"
	if told.SignedPeerRecord != nil {
		record = "signed"
	}
	protocols, err := n.host.Peerstore().GetProtocols(id)
	if err != nil {
		return err
	}
	observed := "-"
	if told.ObservedAddr != nil {
		observed = told.ObservedAddr.String()
	}
	agent := strings.ReplaceAll(told.AgentVersion, " ", "_")
	n.say("identified", id, agent, observed, record, strings.Join(protocol.ConvertToStrings(protocols), ","))
	return nil
}

func (n *node) ping(id peer.ID) error {
	ctx, cancel := context.WithTimeout(n.ctx, patience)
	defer cancel()
	result := <-ping.Ping(ctx, n.host, id)
	if result.Error != nil {
		return result.Error
	}
	n.say("pong", id, result.RTT.Microseconds())
	return nil
}

// The bytes that belong to a name: 64 KiB at a time, each made of a hash that is repeated.
type pattern struct {
	name  string
	left  int64
	block int64
	piece []byte
}

func (p *pattern) Read(out []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	if len(p.piece) == 0 {
		hash := sha256.Sum256([]byte(p.name + "/" + strconv.FormatInt(p.block, 10)))
		p.piece = []byte(strings.Repeat(string(hash[:]), 2048))
		p.block++
	}
	count := copy(out[:min(int64(len(out)), p.left)], p.piece)
	p.piece = p.piece[count:]
	p.left -= int64(count)
	return count, nil
}

func (n *node) open(id peer.ID, name protocol.ID) (network.Stream, error) {
	stream, err := n.host.NewStream(n.ctx, id, name)
	if err == nil {
		err = stream.SetDeadline(time.Now().Add(patience))
	}
	return stream, err
}

func (n *node) serveStreams() {
	n.host.SetStreamHandler(digestProtocol, func(s network.Stream) {
		hash := sha256.New()
		hash.Write(n.secret)
		if _, err := io.Copy(hash, s); err != nil {
			_ = s.Reset()
			return
		}
		_, _ = s.Write(hash.Sum(nil))
		_ = s.Close()
	})
	n.host.SetStreamHandler(resetProtocol, func(s network.Stream) {
		_, err := io.ReadFull(s, make([]byte, 1))
		if err == nil {
			_, err = s.Write([]byte{1})
		}
		if err == nil {
			_, err = io.Copy(io.Discard, s)
		}
		how := "ended"
		if errors.Is(err, network.ErrReset) {
			how = "reset"
		}
		n.say("was", s.Conn().RemotePeer(), how)
		_ = s.Reset()
	})
	n.host.SetStreamHandler(perfProtocol, func(s network.Stream) {
		var head [8]byte
		if _, err := io.ReadFull(s, head[:]); err != nil {
			_ = s.Reset()
			return
		}
		received, _ := io.Copy(io.Discard, s)
		wanted := int64(binary.BigEndian.Uint64(head[:]))
		sent, _ := io.Copy(s, io.LimitReader(zeros{}, wanted))
		_ = s.Close()
		n.say("served-perf", s.Conn().RemotePeer(), received, sent)
	})
}

type zeros struct{}

func (zeros) Read(out []byte) (int, error) { return len(out), nil }

func (n *node) perf(id peer.ID, up, down int64) error {
	stream, err := n.open(id, perfProtocol)
	if err != nil {
		return err
	}
	defer stream.Reset()
	if err := binary.Write(stream, binary.BigEndian, uint64(down)); err != nil {
		return err
	}
	sent, err := io.Copy(stream, io.LimitReader(zeros{}, up))
	if err != nil {
		return err
	}
	if err := stream.CloseWrite(); err != nil {
		return err
	}
	received, err := io.Copy(io.Discard, stream)
	if err != nil {
		return err
	}
	n.say("performed", id, sent, received)
	return nil
}

func (n *node) digest(id peer.ID, name string, size int64, count int) error {
	answers := make([]string, count)
	failures := make([]error, count)
	var all sync.WaitGroup
	for index := range count {
		all.Add(1)
		go func() {
			defer all.Done()
			answers[index], failures[index] = n.digestOne(id, name+"-"+strconv.Itoa(index), size)
		}()
	}
	all.Wait()
	if err := errors.Join(failures...); err != nil {
		return errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	n.say("digests", id, strings.Join(answers, ","))
	return nil
}

func (n *node) digestOne(id peer.ID, name string, size int64) (string, error) {
	stream, err := n.open(id, digestProtocol)
	if err != nil {
		return "", err
	}
	defer stream.Reset()
	if _, err := io.Copy(stream, &pattern{name: name, left: size}); err != nil {
		return "", err
	}
	if err := stream.CloseWrite(); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(stream)
	return hex.EncodeToString(answer), err
}

func (n *node) reset(id peer.ID) error {
	stream, err := n.open(id, resetProtocol)
	if err != nil {
		return err
	}
	if _, err := stream.Write([]byte("x")); err != nil {
		return err
	}
	if _, err := io.ReadFull(stream, make([]byte, 1)); err != nil {
		return fmt.Errorf("before the reset: %w", err)
	}
	if err := stream.Reset(); err != nil {
		return err
	}
	n.say("resetting", id)
	return nil
}
