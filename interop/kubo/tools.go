//go:build tools

// Package kubo pins the version of Kubo that the interop tests run against; the build tag keeps it out of every build.
package kubo

import _ "github.com/ipfs/kubo/cmd/ipfs/kubo"
