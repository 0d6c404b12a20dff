"""One function for each request of `node/api`: these tables are all there is between a request and the work. A row names a function
of a file of this folder, which is loaded by the first request for it: most commands make one request or two."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from stack.node import api

# A handler's own signature names its request and its answer; that they fit is checked by tests/node/test_handlers.py.

ASKS: dict[type, str] = {
    api.GetIdentity: "identity:get_identity",
    api.CompareSettings: "identity:compare_settings",
    api.GetReach: "peers:get_reach",
    api.GetDiscovery: "peers:get_discovery",
    api.ListPeers: "peers:list_peers",
    api.Connect: "peers:connect",
    api.Disconnect: "peers:disconnect",
    api.Perf: "peers:perf",
    api.ListTopics: "pubsub:list_topics",
    api.ListTopicPeers: "pubsub:list_topic_peers",
    api.GetAnnouncements: "announce:get_announcements",
    api.Announce: "announce:announce",
    api.Withdraw: "announce:withdraw",
    api.ListShares: "shares:list_shares",
    api.RemoveShare: "shares:remove_share",
    api.GetTicket: "shares:get_ticket",
    api.GetPresence: "files:get_presence",
    api.GetTotals: "reading:get_totals",
    api.Resolve: "reading:resolve",
    api.TakeCode: "codes:take_code",
    api.ListJobs: "jobs:list_jobs",
    api.PauseJobs: "jobs:pause_jobs",
    api.ResumeJobs: "jobs:resume_jobs",
    api.RemoveJob: "jobs:remove_job",
    api.ListPins: "store:list_pins",
    api.AddPin: "store:add_pin",
    api.RemovePin: "store:remove_pin",
    api.CollectGarbage: "store:collect_garbage",
    api.GetRepoStat: "store:repo_stat",
    api.BlockStat: "store:block_stat",
    api.HasBlocks: "store:has_blocks",
    api.DeleteBlocks: "store:delete_blocks",
}

WATCHES: dict[type, str] = {
    api.Stay: "identity:stay",
    api.Ping: "peers:ping",
    api.Subscribe: "pubsub:subscribe",
    api.FindNames: "announce:find_names",
    api.FindProviders: "announce:find_providers",
    api.Add: "files:add",
    api.Share: "files:share",
    api.OfferCode: "codes:offer_code",
    api.WatchShare: "shares:watch_share",
    api.Fetch: "files:fetch",
    api.ListDirectory: "reading:list_directory",
    api.WatchWaiting: "reading:watch_waiting",
    api.VerifyRepo: "store:verify_repo",
}

READS: dict[type, str] = {
    api.Cat: "reading:cat",
    api.BlockGet: "store:block_get",
    api.CarExport: "store:car_export",
}

WRITES: dict[type, str] = {
    api.Publish: "pubsub:publish",
    api.BlockPut: "store:block_put",
    api.CarImport: "store:car_import",
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


def handler(table: Mapping[type, str], kind: type) -> Any:
    """The function that answers requests of a kind: it is given the node and the request and, where it writes, the bytes."""
    home, _, name = table[kind].partition(":")
    return getattr(import_module(f"{__name__}.{home}"), name)


def load_all() -> None:
    """Load the handlers of all requests. In a worker thread: it takes some 20 ms."""
    for table in (ASKS, WATCHES, READS, WRITES):
        for kind in table:
            handler(table, kind)
