"""A meeting point, and what is asked of one."""

import logging
from collections.abc import Sequence

import anyio

from stack.errors import StackError
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.host import Host
from stack.protocols.code.messages import (
    MESSAGE_BYTES_MAX,
    Answer,
    Holder,
    MeetStatus,
    Question,
    QuestionType,
    decode_answer,
    decode_question,
)
from stack.protocols.code.service import MEET, CodeService
from stack.streams.delimited import receive_message, send_message
from stack.streams.interfaces import Stream
from stack.streams.patience import patient
from stack.streams.supervision import Supervisor

_log = logging.getLogger(__name__)

QUESTION_SECONDS = 5.0
"""For a question and its answer; while the line is busy with a fetch, longer (`patient`)."""
HOLD_SECONDS_MAX = 3600.0
"""For which a number is held at most: longer than any code is good."""
VIA_SECONDS = 2.0
"""For meeting points that were named to be there, before a code is made without them."""


async def serve(service: CodeService, stream: Stream) -> None:
    """One question. A number that is held is let go when the stream ends. Raises DecodeError, RemoteProtocolError, TimeoutError."""
    peer, plates = stream.remote_peer, service.plates
    async with patient(stream, QUESTION_SECONDS):
        question = decode_question(await receive_message(stream, MESSAGE_BYTES_MAX))
    if not plates.may_ask(peer, stream.remote_address, anyio.current_time()):
        await send_message(stream, Answer(status=MeetStatus.BUSY).encode())
    elif question.type is QuestionType.SEEK:
        answer = Answer(status=MeetStatus.OK, holder=plates.seek(question.number))
        await send_message(stream, answer.encode())
    else:
        status = plates.hold(peer, stream.remote_address, question.number, question.addresses)
        try:
            await send_message(stream, Answer(status=status).encode())
            if status is MeetStatus.OK:
                with anyio.move_on_after(HOLD_SECONDS_MAX):
                    await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            pass  # it needs it no longer
        finally:
            if status is MeetStatus.OK:
                plates.left(question.number)


async def hold(host: Host, point: PeerId, number: int) -> tuple[MeetStatus, Stream]:
    """Have a meeting point tell others of us for as long as the stream is open. Raises ASK_ERRORS, DecodeError."""
    question = Question(type=QuestionType.HOLD, number=number, addresses=tuple(host.addresses()))
    answer, stream = await _ask(host, point, question)
    return answer.status, stream


async def seek(host: Host, point: PeerId, number: int) -> Holder | None:
    """Who holds a number at this meeting point. Raises ASK_ERRORS, DecodeError."""
    answer, stream = await _ask(host, point, Question(type=QuestionType.SEEK, number=number))
    stream.reset()
    return answer.holder


async def _ask(host: Host, point: PeerId, question: Question) -> tuple[Answer, Stream]:
    stream = await host.open_stream(point, MEET)
    try:
        async with patient(stream, QUESTION_SECONDS):
            await send_message(stream, question.encode())
            return decode_answer(await receive_message(stream, MESSAGE_BYTES_MAX)), stream
    except BaseException:
        stream.reset()
        raise


def dial(host: Host, via: Sequence[Multiaddr], tasks: Supervisor) -> None:
    """Be connected to meeting points that were named; they are found among the peers once they have said what they speak."""

    async def connect(address: Multiaddr) -> None:
        try:
            await host.connect(None, [address])
        except StackError as error:
            _log.warning("no meeting point at %s: %s", address, error)

    for address in via:
        tasks.start(connect, address, owner="a meeting point")
