package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/ipfs/boxo/bitswap"
	"github.com/ipfs/boxo/bitswap/network/bsnet"
	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	chunk "github.com/ipfs/boxo/chunker"
	"github.com/ipfs/boxo/files"
	"github.com/ipfs/boxo/ipld/merkledag"
	unixfile "github.com/ipfs/boxo/ipld/unixfs/file"
	"github.com/ipfs/boxo/ipld/unixfs/importer/balanced"
	"github.com/ipfs/boxo/ipld/unixfs/importer/helpers"
	uio "github.com/ipfs/boxo/ipld/unixfs/io"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/libp2p/go-libp2p/core/protocol"
)

const linksMax = 174

func (n *node) serveBlocks(version string) {
	var options []bsnet.NetOpt
	if version != "" {
		options = append(options, bsnet.SupportedProtocols([]protocol.ID{protocol.ID("/ipfs/bitswap/" + version)}))
	}
	store := blockstore.NewBlockstore(dssync.MutexWrap(datastore.NewMapDatastore()))
	n.blocks = blockservice.New(store, bitswap.New(n.ctx, bsnet.NewFromIpfsHost(n.host, options...), nil, store))
}

func (n *node) serve(path, version, chunker string) error {
	builder := cid.Builder(cid.V0Builder{})
	if version == "1" {
		builder = cid.V1Builder{Codec: cid.DagProtobuf, MhType: 0x12}
	}
	root, err := n.add(merkledag.NewDAGService(n.blocks), path, helpers.DagBuilderParams{
		Maxlinks: linksMax, RawLeaves: version == "1", CidBuilder: builder,
	}, chunker)
	if err == nil {
		n.say("serving", root.Cid())
	}
	return err
}

func (n *node) add(service ipld.DAGService, path string, params helpers.DagBuilderParams, chunker string) (ipld.Node, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	params.Dagserv = service
	if !info.IsDir() {
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		splitter, err := chunk.FromString(file, "size-"+chunker)
		if err != nil {
			return nil, err
		}
		builder, err := params.New(splitter)
		if err != nil {
			return nil, err
		}
		return balanced.Layout(builder)
	}
	directory, err := uio.NewDirectory(service, uio.WithCidBuilder(params.CidBuilder))
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		child, err := n.add(service, filepath.Join(path, entry.Name()), params, chunker)
		if err != nil {
			return nil, err
		}
		if err := directory.AddChild(n.ctx, entry.Name(), child); err != nil {
			return nil, err
		}
	}
	root, err := directory.GetNode()
	if err != nil {
		return nil, err
	}
	return root, service.Add(n.ctx, root)
}

func (n *node) fetch(name, path string) error {
	root, err := cid.Decode(strings.TrimSpace(name))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(n.ctx, patience)
	defer cancel()
	service := merkledag.NewDAGService(n.blocks)
	found, err := service.Get(ctx, root)
	if err != nil {
		return err
	}
	file, err := unixfile.NewUnixfsFile(ctx, service, found)
	if err != nil {
		return err
	}
	if err := files.WriteTo(file, path); err != nil {
		return err
	}
	n.say("fetched", root)
	return nil
}
