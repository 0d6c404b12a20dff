"""When what reads gives up, though nobody has told it how long to wait."""

import pytest
from anyio import fail_after

from stack import Node
from stack.bitswap.interfaces import Provider
from stack.errors import Stalled
from stack.multiformats.cid import Cid
from stack.node import patience

pytestmark = pytest.mark.anyio

FIRST, REST = Cid.of(b"first"), Cid.of(b"the rest")


@pytest.mark.parametrize("gone", [True, False], ids=["gone", "has it no more"])
async def test_what_reads_ends_when_nobody_is_left_who_has_the_rest(
    monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    """`stack cat` hung without a word when its only peer had gone, or a file had changed there (finding 2, its other half)."""

    async def ends() -> None:
        monkeypatch.setattr(patience, "FIRST_PROVIDER_SECONDS", 0.5)
        with pytest.raises(Stalled, match="nobody is left who has the rest"):
            await session.get(REST)

    with fail_after(40):
        async with Node.open() as reader, reader.patient_session(FIRST) as session:
            async with Node.open() as sharer:
                await sharer.put([(FIRST, b"first")])
                session.add_provider(Provider(sharer.peer_id, tuple(sharer.host.addresses()), "user"))
                assert await session.get(FIRST) == b"first"
                if not gone:
                    await ends()
            if gone:
                await ends()
