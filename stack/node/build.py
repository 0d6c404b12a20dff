"""How a node is put together: which class stands behind each contract is decided here and nowhere else."""

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import anyio
from anyio import to_thread

from stack.bitswap.interfaces import Provider
from stack.bitswap.shell.service import Bitswap
from stack.blocks import STORES
from stack.blocks.interfaces import BlockStore, PageCache, RemembersPages
from stack.errors import ConfigError, StackError
from stack.files.fetch import Fetcher
from stack.files.jobs import Jobs
from stack.identity.keys import PrivateKey, generate
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.muxers import MUXERS
from stack.net.host import Host
from stack.net.limits import NetLimits
from stack.net.resolver import Resolver
from stack.net.upgrader import Upgrader
from stack.node.access import Access
from stack.node.api import Api
from stack.node.company import Both, Company
from stack.node.config import Config, placed, read_address
from stack.node.dials import Dials
from stack.node.discover import discovering, lookup_text, private_network
from stack.node.home import Home
from stack.node.keystore import load_or_create
from stack.node.listen import listen
from stack.node.outside import Outside
from stack.node.relaying import relaying
from stack.node.roles import DAEMON, LISTENING_ROLES
from stack.node.shares import Shares, open_jobs
from stack.node.traffic import Traffic
from stack.platform import raise_descriptor_limit
from stack.protocols import SERVICES
from stack.protocols.access.keyring import Keyring
from stack.protocols.access.service import AccessService
from stack.protocols.code.service import CodeService
from stack.protocols.providers.interfaces import RangeBook
from stack.protocols.providers.service import ProvidersService
from stack.protocols.relay.service import RelayService
from stack.security import SECURITY
from stack.trace import TraceFan
from stack.transports.interfaces import Transport
from stack.transports.late import LateTransport, default_transports
from stack.values import dataclass

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from stack.discovery.service import Discovery
    from stack.gossipsub.shell.service import PubSub
    from stack.protocols.autonat.service import AutonatService
    from stack.security.pnet.shell import PrivateNetwork


def entry_points(group: str, name: str | None = None) -> "Sequence[EntryPoint]":
    """What other packages offer; whether any does is looked up first, because asking them costs 30 ms."""
    if not may_be_offered(group, sys.path):
        return ()
    from importlib.metadata import entry_points as all_entry_points

    return [entry for entry in all_entry_points(group=group) if name in (None, entry.name)]


def may_be_offered(group: str, path: Sequence[str]) -> bool:
    """Whether a package that is installed there may have something in a group: False only where it is sure, in 3 ms."""
    for place in path:
        try:
            names = os.listdir(place or ".")
        except FileNotFoundError:
            continue
        except OSError:
            return True  # an archive of packages, or what cannot be seen now
        for name in names:
            if name.endswith((".dist-info", ".egg-info")):
                try:
                    text = Path(place, name, "entry_points.txt").read_text("utf-8", "replace")
                except (FileNotFoundError, NotADirectoryError):
                    continue
                except OSError:
                    return True
                if f"[{group}]" in text:
                    return True
    return False


ANNOUNCING_ROLES = frozenset({"daemon", "share", "get", "library", "find", "providers", "read", "announce"})
"""`announce` only looks at, or changes, what the home announces: it looks for nobody."""

ALONE_ROLES = frozenset({"get"})
"""Most are over before they need anybody but those that they were told of."""


SERVERS = {"control": "stack.control.serving:serve_control"}
"""What a node with a home serves besides its protocols; below this layer, so it is named here and resolved on use."""


class ControlSocket(Protocol):
    """The control socket of a node."""

    @property
    def active(self) -> int:
        """Requests of other commands that are being served."""
        ...

    def hand_over(self) -> None:
        """Let those go that begin again with the next holder of the home."""
        ...

    async def drain(self) -> None:
        """Wait until none is, and take no more."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a node is made of."""

    key: PrivateKey
    trace: TraceFan
    host: Host
    blocks: BlockStore
    book: RangeBook
    exchange: Bitswap
    jobs: Jobs
    fetcher: Fetcher
    shares: Shares
    ask_name: Callable[[Cid, PeerId, bytes], Awaitable[str]]
    receivers: Callable[[Cid], dict[PeerId, float]]
    access: Access
    codes: CodeService
    outside: Outside
    traffic: Traffic
    notices: tuple[str, ...]
    company: Company
    discovery: "Discovery | None"
    private: "PrivateNetwork | None"


def resolve(table: dict[str, str], group: str, name: str) -> object:
    """The object behind a row of one of our tables, or behind an entry point of another package. Raises ConfigError."""
    row = table.get(name)
    if row is not None:
        home, _, attribute = row.partition(":")
        return getattr(import_module(home), attribute)
    for entry in entry_points(group=group, name=name):
        return entry.load()
    raise ConfigError(f"{name!r} is not installed; there are: {', '.join(table)}")


def transports() -> list[Transport]:
    """Those of our table, then those of other packages, looked for when an address comes that ours do not understand."""
    return [
        *default_transports(),
        LateTransport(lambda: [entry.load()() for entry in entry_points(group="stack.transports")]),
    ]


def service_names(config: Config) -> list[str]:
    """Our services, and those of other packages where the node serves anybody."""
    found = entry_points(group="stack.services") if config.role in LISTENING_ROLES else ()
    wanted = {"perf": config.perf, "autonat": config.role in LISTENING_ROLES}
    ours = [name for name in SERVICES if wanted.get(name, True)]
    return [*ours, *(entry.name for entry in found if entry.name not in SERVICES)]


@asynccontextmanager
async def control_socket(api: Api, home: Home | None, role: str) -> AsyncIterator[ControlSocket | None]:
    """Serve other commands of this home while the context lasts; None without a home."""
    if home is None:
        yield None
        return
    serve = resolve(SERVERS, "", "control")
    async with serve(api, home, lasts=role == DAEMON) as socket:  # type: ignore[operator] # the row names a context manager
        yield socket


def security_rows(names: Sequence[str]) -> dict[str, str]:
    """The rows of `SECURITY`, or of other packages, that the setting names, in its order. Raises ConfigError."""
    ours = {protocol.split("/")[1]: protocol for protocol in SECURITY}
    rows = {}
    for name in names:
        protocol = ours.get(name, name)
        found = SECURITY.get(protocol) or next(
            (entry.value for entry in entry_points(group="stack.security", name=protocol)), None
        )
        if found is None:
            raise ConfigError(f"security: {name!r} is not one of {', '.join(ours)}, and no package here offers it")
        rows[protocol] = found
    return rows


def muxer_rows() -> dict[str, str]:
    """Those of our table, then those of other packages; looked for when the first connection is made."""
    return MUXERS | {
        entry.name: entry.value for entry in entry_points(group="stack.muxers") if entry.name not in MUXERS
    }


@asynccontextmanager
async def _pubsub(host: Host, key: PrivateKey, config: Config) -> AsyncIterator["PubSub | None"]:
    """gossipsub with scores and peer exchange, where the node serves anybody. Loaded here: it costs 50 ms of 300."""
    if not config.pubsub or config.role not in LISTENING_ROLES | ANNOUNCING_ROLES:
        yield None
        return
    from stack.gossipsub.params import GossipsubParams, PeerScoreParams
    from stack.gossipsub.shell.service import PubSub

    params = GossipsubParams(score=PeerScoreParams(), do_px=True)
    async with PubSub.open(host, key, params=params, record_of=host.peerstore.record) as pubsub:
        yield pubsub


@asynccontextmanager
async def _company(
    host: Host, key: PrivateKey, blocks: BlockStore, exchange: Bitswap, config: Config
) -> AsyncIterator[Both]:
    """gossipsub, and the announcement layer where somebody may want it, which is loaded here as well."""
    async with _pubsub(host, key, config) as pubsub:
        if pubsub is None or not _announces(config):
            yield pubsub, None
            return
        from stack.node.announcing import announcing

        async with announcing(host, pubsub, key, blocks, exchange, config) as layer:
            yield pubsub, layer


def _announces(config: Config) -> bool:
    return config.pubsub and config.announce and config.role in ANNOUNCING_ROLES


@asynccontextmanager
async def build(config: Config) -> AsyncIterator[Parts]:
    """Everything running, in the order in which one thing needs another; left in the opposite order."""
    key = (
        await to_thread.run_sync(load_or_create, config.home, config.key_type)
        if config.home
        else generate(config.key_type)
    )
    with placed(config, "swarm_key"):
        private = await to_thread.run_sync(private_network, config)
    with placed(config, "security"):
        security = await to_thread.run_sync(security_rows, config.security)
    trace, dials = TraceFan(), Dials()
    trace.add(dials)
    limits = NetLimits.of_node(
        config.memory_limit, raise_descriptor_limit(), low_water=config.low_water, high_water=config.high_water
    )
    async with AsyncExitStack() as stack:
        name = config.store or ("disk" if config.home else "memory")
        with placed(config, "store"):
            store_class = resolve(STORES, "stack.stores", name)
        opened = store_class.open(config.home, quota=config.quota, trace=trace)  # type: ignore[attr-defined] # the table says so
        blocks = cast(BlockStore, await stack.enter_async_context(opened))
        if hasattr(blocks, "set_page_cache"):
            cast(RemembersPages, blocks).set_page_cache(PageCache(config.page_cache))
        keyring = Keyring(PeerId.of(key.public))
        access = Access(blocks, keyring)
        await access.restore()
        jobs = await open_jobs(config.home, blocks)
        stack.push_async_callback(jobs.aclose)
        book = RangeBook()
        shares = Shares(blocks, jobs, book, trace, access=access)
        gives = config.serve and config.role in LISTENING_ROLES
        if gives:
            await shares.restore(config.home)
            stack.push_async_callback(shares.close)
        upgrader = Upgrader.of(key, private, security, muxer_rows)
        if config.role in LISTENING_ROLES:
            await to_thread.run_sync(upgrader.load)
        host = await stack.enter_async_context(
            Host(
                key,
                transports=transports(),
                upgrader=upgrader,
                resolver=Resolver(lookup_text=lookup_text),
                limits=limits,
                trace=trace,
                external=[read_address(text) for text in config.external],
            )
        )
        knows = AccessService(host, keyring)
        autonat: AutonatService | None = None
        relays, codes = RelayService(host), CodeService(host)
        for service in await to_thread.run_sync(service_names, config):
            row = resolve(SERVICES, "stack.services", service)
            if service == "autonat":
                autonat = cast("AutonatService", row(host, serve=config.autonat))  # type: ignore[operator] # as below
            elif service not in ("access", "providers", "relay", "code"):  # made by hand, with what else they take
                row(host)  # type: ignore[operator] # a row is a class that takes the host

        def may_know(root: Cid, peer: PeerId) -> bool:
            return keyring.is_for(root.multihash, knows.admitted(peer))

        told = book if gives else RangeBook()  # who gives nothing says only that it is done
        swarm = await stack.enter_async_context(ProvidersService.open(host, told, may_know=may_know))
        shares.told = swarm.settled
        exchange = await stack.enter_async_context(
            Bitswap.open(
                host,
                blocks,
                swarm=swarm,
                access=knows,
                serve=gives,
                upload=config.upload_limit or 0,
                download=config.download_limit or 0,
            )
        )
        access.opened = exchange.realm_opened
        traffic = Traffic()
        trace.add(traffic)
        notices: list[str] = []
        if config.role in LISTENING_ROLES:
            notices = await listen(host, config.listen, config.home)
        outside = await stack.enter_async_context(Outside.open(host, config, autonat))
        await stack.enter_async_context(relaying(host, relays, config))
        both = _company(host, key, blocks, exchange, config)
        company = await stack.enter_async_context(Company.open(both, trace, later=config.role in ALONE_ROLES))
        if _announces(config):
            exchange.sources.append(company)
        discovery = await stack.enter_async_context(discovering(host, config, private))

        async def read_by(peer: PeerId) -> bool:
            return host.is_connected(peer) and await exchange.link(peer).read_by_peer()

        shares.read_by = read_by

        async def ask_name(root: Cid, peer: PeerId, secret: bytes) -> str:
            return await swarm.ask_name(root, peer) if not secret or await knows.prove(peer, secret) else ""

        async def meet(root: Cid, providers: Sequence[Provider], secret: bytes) -> None:
            for provider in providers:
                with suppress(StackError, anyio.BrokenResourceError):
                    await host.connect(provider.peer, provider.addresses)
                    if not secret or await knows.prove(provider.peer, secret):
                        swarm.ask(root, provider.peer)

        yield Parts(
            key=key,
            trace=trace,
            host=host,
            blocks=blocks,
            book=book,
            exchange=exchange,
            jobs=jobs,
            fetcher=Fetcher(
                blocks,
                exchange,
                is_connected=host.direct.is_reached,
                book=book,
                jobs=jobs,
                meet=meet,
                over=told,
                dialled=dials.last,
                doubt=host.doubt,
                access=access,
            ),
            shares=shares,
            ask_name=ask_name,
            receivers=swarm.receivers,
            access=access,
            codes=codes,
            outside=outside,
            traffic=traffic,
            notices=tuple(notices),
            company=company,
            discovery=discovery,
            private=private,
        )
