"""Names in addresses."""

from collections.abc import Sequence

import anyio
import pytest

from stack.multiformats.multiaddr import Multiaddr
from stack.net import resolver as module
from stack.net.resolver import ADDRESSES_MAX, LOOKUPS_MAX, Resolver, is_named
from tests.net.identities import peer


def parse(*texts: str) -> list[Multiaddr]:
    return [Multiaddr.parse(text) for text in texts]


class Names:
    """A name service; `asked` counts the questions."""

    def __init__(self, hosts: dict[str, list[str]] | None = None, texts: dict[str, list[str]] | None = None) -> None:
        self.hosts = hosts or {}
        self.texts = texts or {}
        self.asked = 0

    async def host(self, name: str, version: int) -> Sequence[str]:
        self.asked += 1
        if name not in self.hosts:
            raise OSError("name unknown")
        return [ip for ip in self.hosts[name] if not version or (":" in ip) == (version == 6)]

    async def text(self, name: str) -> Sequence[str]:
        self.asked += 1
        return self.texts.get(name, [])

    def resolver(self) -> Resolver:
        return Resolver(self.host, self.text)


@pytest.mark.anyio
async def test_names_become_addresses_of_the_wanted_family_in_order() -> None:
    names = Names({"a.example": ["2a00::1", "8.8.8.8"]})
    addresses = parse("/dns/a.example/tcp/1", "/memory/1", "/dns4/a.example/tcp/2", "/dns6/a.example/tcp/3")
    resolved, failed = await names.resolver().resolve(addresses)
    assert [str(a) for a in resolved] == [
        "/ip6/2a00::1/tcp/1",
        "/ip4/8.8.8.8/tcp/1",
        "/memory/1",
        "/ip4/8.8.8.8/tcp/2",
        "/ip6/2a00::1/tcp/3",
    ]
    assert failed == []


@pytest.mark.anyio
async def test_the_name_is_kept_for_the_certificate() -> None:
    names = Names({"a.example": ["8.8.8.8"]})
    addresses = parse(
        "/dns4/a.example/tcp/443/tls/ws",
        "/dns4/a.example/tcp/443/wss",
        "/dns4/a.example/tcp/443/tls/sni/b.example/ws",
        "/dns4/a.example/tcp/80/ws",
    )
    resolved, _ = await names.resolver().resolve(addresses)
    assert [str(a) for a in resolved] == [
        "/ip4/8.8.8.8/tcp/443/tls/sni/a.example/ws",
        "/ip4/8.8.8.8/tcp/443/tls/sni/b.example/ws",
        "/ip4/8.8.8.8/tcp/80/ws",
    ]


@pytest.mark.anyio
async def test_names_that_do_not_resolve_are_reported() -> None:
    resolved, failed = await Names().resolver().resolve(parse("/dns4/a.example/tcp/1"))
    assert resolved == []
    assert "name unknown" in failed[0][1]
    resolved, failed = await Resolver(Names().host).resolve(parse("/dnsaddr/a.example"))
    assert "not looked up" in failed[0][1]


@pytest.mark.anyio
async def test_a_name_service_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOKUP_SECONDS", 0.02)

    async def hang(name: str, version: int) -> Sequence[str]:
        await anyio.sleep_forever()
        return []

    _, failed = await Resolver(hang).resolve(parse("/dns4/a.example/tcp/1"))
    assert "no answer" in failed[0][1]


@pytest.mark.anyio
async def test_dnsaddr_records_are_followed_and_a_peer_picks_its_own() -> None:
    one, two = str(peer(1)), str(peer(2))
    names = Names(
        {"host.example": ["8.8.8.8"]},
        {
            "_dnsaddr.a.example": [
                f"dnsaddr=/dnsaddr/b.example/p2p/{one}",
                f"dnsaddr=/ip4/8.8.4.4/tcp/1/p2p/{two}",
                "dnsaddr=nonsense",
                "v=spf1",
            ],
            "_dnsaddr.b.example": [f"dnsaddr=/dns4/host.example/tcp/1/p2p/{one}"],
        },
    )
    resolved, _ = await names.resolver().resolve(parse("/dnsaddr/a.example"))
    assert {str(a) for a in resolved} == {f"/ip4/8.8.8.8/tcp/1/p2p/{one}", f"/ip4/8.8.4.4/tcp/1/p2p/{two}"}
    resolved, _ = await names.resolver().resolve(parse(f"/dnsaddr/a.example/p2p/{one}"))
    assert [str(a) for a in resolved] == [f"/ip4/8.8.8.8/tcp/1/p2p/{one}"]


@pytest.mark.anyio
async def test_A08_names_that_name_themselves_end_after_few_questions() -> None:
    names = Names(texts={"_dnsaddr.a.example": ["dnsaddr=/dnsaddr/a.example", "dnsaddr=/dnsaddr/a.example/tcp/1"]})
    resolved, _ = await names.resolver().resolve(parse("/dnsaddr/a.example"))
    assert resolved == []
    assert names.asked <= LOOKUPS_MAX


@pytest.mark.anyio
async def test_A08_ten_thousand_records_give_few_addresses_and_few_questions() -> None:
    many = Names(texts={"_dnsaddr.a.example": [f"dnsaddr=/ip4/8.8.{n // 256}.{n % 256}/tcp/1" for n in range(10_000)]})
    resolved, _ = await many.resolver().resolve(parse("/dnsaddr/a.example"))
    assert len(resolved) == ADDRESSES_MAX
    chain = Names(
        texts={f"_dnsaddr.{n}.example": [f"dnsaddr=/dnsaddr/{m}.example" for m in range(10_000)] for n in range(100)}
    )
    resolved, failed = await chain.resolver().resolve(parse("/dnsaddr/0.example"))
    assert chain.asked == LOOKUPS_MAX
    assert resolved == []
    assert failed


@pytest.mark.anyio
async def test_A08_addresses_that_need_no_question_are_bounded_too() -> None:
    resolved, _ = await Names().resolver().resolve(parse(*(f"/memory/{n}" for n in range(200))))
    assert len(resolved) == ADDRESSES_MAX


@pytest.mark.anyio
async def test_the_system_resolver_knows_this_machine() -> None:
    resolved, failed = await Resolver().resolve(parse("/dns4/localhost/tcp/1", "/dns4/localhost/tcp/2"))
    assert [str(a) for a in resolved] == ["/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/2"]
    assert failed == []


def test_only_a_name_in_front_counts() -> None:
    assert is_named(parse("/dns/a.example/tcp/1")[0])
    assert not is_named(parse("/ip4/1.2.3.4/tcp/1")[0])
