"""Codes between hosts: two who meet at a third, and those who guess, listen, replay, or leave."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random

import anyio
import pytest

from stack.errors import DecodeError, Refused, RemoteProtocolError, TransportError
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.host import Host
from stack.protocols.code.exchange import Giver, Taker
from stack.protocols.code.messages import (
    Answer,
    Asked,
    GiverStatus,
    Holder,
    MeetStatus,
    Told,
    decode_asked,
    decode_told,
)
from stack.protocols.code.offers import TRIES, Ending
from stack.protocols.code.service import CODE, MEET, CodeService
from stack.protocols.code.shell import giving, meeting, taking
from stack.protocols.code.shell.giving import Offering
from stack.protocols.code.shell.taking import HOLDERS_MAX, UnknownCode, WrongCode
from stack.protocols.code.words import WORDS, Code
from stack.sansio.delimited import encode_delimited
from stack.streams.delimited import receive_message, send_message
from stack.streams.interfaces import Stream
from tests.bitswap.simulation import peer_named
from tests.net.hosts import connect, hosts, settled

pytestmark = pytest.mark.anyio

TICKET = "stack:aebacaeq"
RANDOM = Random(1)


class Three:
    """A meeting point, who gives and who takes; the last two know only the first."""

    def __init__(self, point: Host, gives: Host, takes: Host) -> None:
        self.hosts = point, gives, takes
        self.point, self.gives, self.takes = map(CodeService, self.hosts)

    def offering(self, seconds: float = 60.0, via: tuple[Multiaddr, ...] = ()) -> AbstractAsyncContextManager[Offering]:
        return self.gives.offering(lambda: TICKET, seconds, via)


@asynccontextmanager
async def three() -> AsyncIterator[Three]:
    async with hosts(3) as [point, gives, takes]:
        made = Three(point, gives, takes)
        for host in (gives, takes):
            await connect(host, point)
        for service in (made.gives, made.takes):
            await settled(lambda service=service: len(service.points()) == 1)  # type: ignore[misc] # mypy knows no default here
        yield made


def wrong(code: Code) -> Code:
    other = next(word for word in WORDS if word not in code.words)
    return Code(code.number, (*code.words[:2], other))


async def test_two_meet_at_a_third_and_the_ticket_goes_over_once() -> None:
    async with three() as all_, all_.offering() as given:
        assert list(given.points) == [all_.hosts[0].peer_id] and len(all_.point.plates) == 1
        assert await all_.takes.take(given.code) == TICKET
        assert given.offer.ending is Ending.USED and given.taker == all_.hosts[2].peer_id
        with pytest.raises(UnknownCode, match="it was used"):
            await all_.takes.take(given.code)


async def test_neighbours_need_no_third(monkeypatch: pytest.MonkeyPatch) -> None:
    async with hosts(2) as [gives, takes]:
        giver, taker = CodeService(gives), CodeService(takes)
        await connect(takes, gives)
        async with giver.offering(lambda: TICKET, 60.0) as given:
            assert await taker.take(given.code) == TICKET


async def test_who_was_named_is_dialled_and_is_the_meeting_point() -> None:
    async with hosts(3) as [point, gives, takes]:
        all_ = Three(point, gives, takes)
        via = tuple(point.addresses()[:1])
        async with all_.offering(via=via) as given:
            assert len(given.points) == 1
            assert await all_.takes.take(given.code, via) == TICKET


async def test_a_meeting_point_that_comes_later_is_told_too() -> None:
    async with hosts(3) as [point, gives, takes]:
        all_ = Three(point, gives, takes)
        async with all_.offering() as given:
            assert not given.points
            news = given.news
            await connect(gives, point)
            while not given.points:
                await given.wait(news)
                news = given.news
            await connect(takes, point)
            assert await all_.takes.take(given.code) == TICKET


async def test_who_types_it_wrongly_is_told_how_many_tries_there_are_and_may_type_again() -> None:
    async with three() as all_, all_.offering() as given:
        for left in (2, 1):
            with pytest.raises(WrongCode) as caught:
                await all_.takes.take(wrong(given.code))
            assert caught.value.left == left
        assert str(caught.value) == "that code is not right (1 try left for it)"
        assert await all_.takes.take(given.code) == TICKET and given.offer.failed == 2


async def test_three_wrong_tries_end_a_code_for_whoever_types_it_rightly() -> None:
    async with three() as all_, all_.offering() as given:
        for _ in range(TRIES):
            with pytest.raises(WrongCode) as caught:
                await all_.takes.take(wrong(given.code))
        assert "good no longer" in str(caught.value) and given.offer.ending is Ending.TRIES
        with pytest.raises(UnknownCode):
            await all_.takes.take(given.code)


async def test_when_both_mistype_the_number_nobody_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taking, "SEEK_SECONDS", 0.05)
    async with three() as all_, all_.offering() as given:
        with pytest.raises(UnknownCode, match=r"number \d+: codes are good once.*--via HOST:PORT"):
            await all_.takes.take(Code(given.code.number % 9 + 1, given.code.words))
        assert given.offer.left == TRIES


async def test_who_has_nobody_to_ask_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taking, "SEEK_SECONDS", 0.05)
    async with hosts(1) as [host]:
        with pytest.raises(UnknownCode, match=r"nobody whom a code could be asked of.*the same --via HOST:PORT"):
            await CodeService(host).take(Code(4, ("otter", "lamp", "violin")))


async def test_after_its_time_a_code_gives_nothing() -> None:
    async with three() as all_, all_.offering(0.0) as given:
        await given.wait(given.news)
        assert given.offer.ending is Ending.TIME
        with pytest.raises(UnknownCode, match="its time is over"):
            await all_.takes.take(given.code)


async def test_when_the_giver_ends_nothing_of_the_code_is_left_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taking, "SEEK_SECONDS", 0.05)
    async with three() as all_:
        async with all_.offering() as given:
            assert len(all_.point.plates) == 1
        await settled(lambda: not len(all_.point.plates))
        assert not all_.gives.offerings and repr(all_.gives) == "<CodeService: 0 codes>"
        with pytest.raises(UnknownCode):
            await all_.takes.take(given.code)


class Line:
    """A stream that says what it is given to say, and keeps what it is told; at its end it stands still, or ends."""

    def __init__(self, peer: PeerId, *said: bytes, stalls: bool = False) -> None:
        self.remote_peer, self.remote_address = peer, Multiaddr.parse("/ip4/45.79.1.9/tcp/1")
        self._said = bytearray(b"".join(map(encode_delimited, said)))
        self._stalls = stalls
        self.heard = b""
        self.waits = anyio.Event()

    async def receive_into(self, buffer: memoryview) -> int:
        if not self._said:
            self.waits.set()
            if self._stalls:
                await anyio.sleep_forever()
            raise anyio.EndOfStream
        size = min(len(buffer), len(self._said))
        buffer[:size] = self._said[:size]
        del self._said[:size]
        return size

    async def send(self, item: bytes) -> None:
        self.heard += item


async def serve(service: CodeService, line: Line) -> bytes:
    """What a stream to whoever gives a code comes to: all that he says."""
    try:
        await giving.serve(service, line)  # type: ignore[arg-type] # as much of a stream as it needs
    except RemoteProtocolError:
        pass
    return line.heard


async def test_ten_thousand_guesses_of_many_peers_are_stopped_at_three_and_get_nothing() -> None:
    """Each with a peer id of its own, and a proof that is a guess; also in the same moment."""
    over = encode_delimited(b"\x08\x02")
    async with three() as all_, all_.offering() as given:
        answers: list[bytes] = []

        async def guess(number: int) -> None:
            who = peer_named(str(number % 100))
            element = (
                Taker(wrong(given.code), taker=who, giver=all_.hosts[1].peer_id, random=RANDOM).element
                if number < 12
                else b""
            )
            first = Asked(number=given.code.number, element=element).encode()
            answers.append(await serve(all_.gives, Line(who, first, Asked(proof=b"p" * 32).encode())))

        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(guess, number)
        for number in range(12, 10_000):
            await guess(number)
        assert len(answers) - answers.count(over) == TRIES and given.offer.ending is Ending.TRIES
        told = [decode_told(answer[answer.index(b"\x08\x03") :]) for answer in answers if answer != over]
        assert {each.status for each in told} == {GiverStatus.WRONG} and not any(each.sealed for each in told)


@pytest.mark.parametrize(
    "said", [(b"\xff",), (Asked(number=4).encode()[:1],), ()], ids=["no message", "cut", "nothing"]
)
async def test_what_is_no_try_costs_none(said: tuple[bytes, ...]) -> None:
    async with three() as all_, all_.offering() as given:
        with pytest.raises((DecodeError, RemoteProtocolError)):
            await giving.serve(all_.gives, Line(peer_named("x"), *said))  # type: ignore[arg-type] # as above
        assert given.offer.left == TRIES


async def test_who_breaks_off_before_his_proof_has_used_a_try() -> None:
    """So that nobody guesses as often as he likes by never finishing."""
    async with three() as all_, all_.offering() as given:
        for element in (b"A" + bytes(32), b""):
            await serve(all_.gives, Line(peer_named("x"), Asked(number=given.code.number, element=element).encode()))
        assert (given.offer.left, given.offer.failed) == (1, 2)


async def test_a_try_under_way_gets_nothing_once_the_giver_has_ended() -> None:
    """Ctrl-C at the sharer's while the other one's computer proves that it is right."""
    async with three() as all_, anyio.create_task_group() as group:
        async with all_.offering() as given:
            element = Taker(given.code, taker=peer_named("x"), giver=all_.hosts[1].peer_id, random=RANDOM).element
            line = Line(peer_named("x"), Asked(number=given.code.number, element=element).encode(), stalls=True)
            group.start_soon(serve, all_.gives, line)
            await line.waits.wait()
        assert given.offer.ending is Ending.WITHDRAWN and not given.offer.take(0.0)
        group.cancel_scope.cancel()


class Impostor:
    """A meeting point that says of every number that it gives the code itself, and guesses at what it is."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.guesses: list[bool] = []
        host.handle(MEET, self._meet)
        host.handle(CODE, self._try)

    async def _meet(self, stream: Stream) -> None:
        await receive_message(stream, 8192)
        holder = Holder(self._host.peer_id, tuple(self._host.addresses()))
        await send_message(stream, Answer(status=MeetStatus.OK, holder=holder).encode())

    async def _try(self, stream: Stream) -> None:
        guess = Code(4, ("otter", "lamp", "village"))
        giver = Giver(guess, taker=stream.remote_peer, giver=self._host.peer_id, random=RANDOM)
        giver.agree(decode_asked(await receive_message(stream, 8192)).element)
        await send_message(stream, Told(status=GiverStatus.OK, element=giver.element).encode())
        self.guesses.append(giver.is_right(decode_asked(await receive_message(stream, 8192)).proof))
        await send_message(stream, Told(status=GiverStatus.OK, sealed=giver.seal(b"stack:false")).encode())


async def test_a_meeting_point_that_names_itself_has_one_guess_and_cannot_hand_over_a_ticket_of_its_own() -> None:
    async with hosts(2) as [point, takes]:
        impostor = Impostor(point)
        taker = CodeService(takes)
        await connect(takes, point)
        with pytest.raises(TransportError, match="does not know the code"):
            await taker.take(Code(4, ("otter", "lamp", "violin")))
        assert impostor.guesses == [False]


async def test_with_few_holders_a_code_is_tried_however_many_a_meeting_point_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[PeerId] = []

    async def exchange(service: CodeService, code: Code, holder: Holder) -> str:
        tried.append(holder.peer)
        raise WrongCode(0)

    monkeypatch.setattr(taking, "_exchange", exchange)
    async with hosts(1) as [host]:
        service = CodeService(host)
        search = taking._Search(service, 4)
        search.found = {peer: Holder(peer) for peer in map(peer_named, "abcdefgh")}
        monkeypatch.setattr(taking, "_Search", lambda service, number: search)
        with pytest.raises(WrongCode):
            await service.take(Code(4, ("otter", "lamp", "violin")))
    assert len(tried) == HOLDERS_MAX


async def test_who_gives_and_cannot_be_reached_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    async with three() as all_, all_.offering() as given:
        holder = Holder(peer_named("gone"), ())
        monkeypatch.setattr(all_.point.plates, "seek", lambda number: holder)
        with pytest.raises(TransportError, match="cannot reach"):
            await all_.takes.take(given.code)


async def test_a_taken_number_is_not_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(giving, "NUMBERS", (1, 1, 1))
    async with three() as all_, all_.offering() as given:
        assert given.code.number == 1
        with pytest.raises(Refused, match="no free number"):
            async with all_.takes.offering(lambda: TICKET, 60.0):
                pass
        assert not all_.takes.offerings
        with pytest.raises(Refused, match="no free number"):
            async with all_.offering():
                pass


async def test_a_meeting_point_says_that_it_is_busy_to_who_asks_too_often() -> None:
    async with three() as all_:
        point = all_.hosts[0].peer_id
        all_.point.plates.may_ask = lambda *asked: False  # type: ignore[method-assign] # the bounds are tested with the plates
        assert await meeting.seek(all_.hosts[2], point, 4) is None
        async with all_.offering() as given:
            assert not given.points


async def test_a_meeting_point_that_says_nothing_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "QUESTION_SECONDS", 0.05)
    async with hosts(2) as [point, gives]:
        point.handle(MEET, lambda stream: anyio.sleep_forever())
        giver = CodeService(gives)
        await connect(gives, point)
        await settled(lambda: len(giver.points()) == 1)
        async with giver.offering(lambda: TICKET, 60.0) as given:
            assert not given.points


async def test_a_number_that_was_held_long_enough_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "HOLD_SECONDS_MAX", 0.0)
    async with three() as all_:
        status, stream = await meeting.hold(all_.hosts[1], all_.hosts[0].peer_id, 4)
        assert status is MeetStatus.OK
        await settled(lambda: not len(all_.point.plates))
        stream.reset()


async def test_where_nobody_is_at_the_meeting_point_that_was_named_it_goes_on_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(giving, "VIA_SECONDS", 0.05)
    async with three() as all_, all_.offering(via=(Multiaddr.parse("/memory/77"),)) as given:
        assert len(given.points) == 1
