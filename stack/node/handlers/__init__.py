"""One function for each request of `node/api`: these tables are all there is between a request and the work."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from stack.node import api
from stack.node.handlers import announce, codes, files, jobs, peers, pubsub, reading, shares, store
from stack.node.interfaces import Handled

# A handler's own signature names its request and its answer; that they fit is checked by tests/node/test_handlers.py.
AskHandler = Callable[[Handled, Any], Awaitable[object]]
WatchHandler = Callable[[Handled, Any], AbstractAsyncContextManager[AsyncIterator[object]]]
ReadHandler = Callable[[Handled, Any], AbstractAsyncContextManager[AsyncIterator[bytes]]]
WriteHandler = Callable[[Handled, Any, AsyncIterator[bytes]], Awaitable[object]]

ASKS: dict[type, AskHandler] = {
    api.GetIdentity: peers.get_identity,
    api.CompareSettings: peers.compare_settings,
    api.GetReach: peers.get_reach,
    api.GetDiscovery: peers.get_discovery,
    api.ListPeers: peers.list_peers,
    api.Connect: peers.connect,
    api.Disconnect: peers.disconnect,
    api.Perf: peers.perf,
    api.ListTopics: pubsub.list_topics,
    api.ListTopicPeers: pubsub.list_topic_peers,
    api.GetAnnouncements: announce.get_announcements,
    api.Announce: announce.announce,
    api.Withdraw: announce.withdraw,
    api.ListShares: shares.list_shares,
    api.RemoveShare: shares.remove_share,
    api.GetTicket: shares.get_ticket,
    api.GetPresence: files.get_presence,
    api.GetTotals: reading.get_totals,
    api.Resolve: reading.resolve,
    api.TakeCode: codes.take_code,
    api.ListJobs: jobs.list_jobs,
    api.PauseJobs: jobs.pause_jobs,
    api.ResumeJobs: jobs.resume_jobs,
    api.RemoveJob: jobs.remove_job,
    api.ListPins: store.list_pins,
    api.AddPin: store.add_pin,
    api.RemovePin: store.remove_pin,
    api.CollectGarbage: store.collect_garbage,
    api.GetRepoStat: store.repo_stat,
    api.BlockStat: store.block_stat,
    api.HasBlocks: store.has_blocks,
    api.DeleteBlocks: store.delete_blocks,
}

WATCHES: dict[type, WatchHandler] = {
    api.Ping: peers.ping,
    api.Subscribe: pubsub.subscribe,
    api.FindNames: announce.find_names,
    api.FindProviders: announce.find_providers,
    api.Add: files.add,
    api.Share: files.share,
    api.OfferCode: codes.offer_code,
    api.WatchShare: shares.watch_share,
    api.Fetch: files.fetch,
    api.ListDirectory: reading.list_directory,
    api.WatchWaiting: reading.watch_waiting,
    api.VerifyRepo: store.verify_repo,
}

READS: dict[type, ReadHandler] = {
    api.Cat: reading.cat,
    api.BlockGet: store.block_get,
    api.CarExport: store.car_export,
}

WRITES: dict[type, WriteHandler] = {
    api.Publish: pubsub.publish,
    api.BlockPut: store.block_put,
    api.CarImport: store.car_import,
}

ACCOMPANIED = frozenset(
    {
        api.ListTopics,
        api.ListTopicPeers,
        api.Subscribe,
        api.Publish,
        api.GetAnnouncements,
        api.Announce,
        api.Withdraw,
        api.FindNames,
        api.FindProviders,
        api.GetDiscovery,
        api.Share,
        api.RemoveShare,
    }
)
"""What needs gossipsub or the announcement layer, which a node that only fetches may not have begun yet."""
