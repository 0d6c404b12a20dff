"""`stack pubsub pub|sub|ls|peers`: messages to everybody who is in a topic."""

import sys
from base64 import b64encode
from io import BytesIO

import click

from stack.cli import output
from stack.cli.answers import answers, tells
from stack.cli.app import run_async
from stack.cli.groups import Group
from stack.cli.missing import missed
from stack.cli.session import open_api, waiting, with_api
from stack.cli.sources import open_input, read_first
from stack.cli.types import FROM, TextType, config
from stack.dag.unixfs.names import printable
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.node.api import (
    Api,
    ListTopicPeers,
    ListTopics,
    Publish,
    Published,
    Subscribe,
    Subscribed,
    TopicInfo,
    TopicMessage,
    TopicPeer,
)
from stack.node.exit_codes import OK
from stack.values import dataclass

TOPIC_BYTES_MAX = 1024
"""Longer names are ignored by our nodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message of a topic, in a form that is read without more ado where it is text."""

    topic: str
    author: PeerId | None
    """Who signed it."""
    seqno: int | None
    """Grows with each message of an author."""
    id: str
    """Hexadecimal."""
    data: str
    encoding: str
    """Of `data`: `text`, or `base64` where it is no UTF-8."""
    dropped: int
    """Messages that were missed so far, because they were read too slowly."""


class TopicType(TextType):
    """The name of a topic."""

    name = "TOPIC"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Raises click's usage error."""
        topic = super().convert(value, param, ctx)
        size = len(topic.encode())
        if not 1 <= size <= TOPIC_BYTES_MAX:
            self.fail(f"the name of a topic has 1 to {TOPIC_BYTES_MAX} bytes, this one {size}", param, ctx)
        return topic


TOPIC = TopicType()

connect_option = click.option(
    "--connect", type=FROM, multiple=True, help="Connect to this peer first; may be given several times."
)


@click.group(cls=Group)
def pubsub() -> None:
    """Messages to everybody who is in a topic."""


@pubsub.command("pub")
@click.argument("topic", type=TOPIC)
@click.argument("data", required=False)
@connect_option
@answers(Published)
def pub(topic: str, data: str | None, connect: tuple[Multiaddr, ...], as_json: bool) -> int:
    """Send a message: DATA, or all of standard input without DATA or for `-`. At most 1020 KiB.

    Waits some seconds while nobody is known who is in the topic.
    """
    source = open_input("-") if data is None or data == "-" else BytesIO(data.encode(errors="surrogateescape"))

    if data is None and sys.stdin.isatty():
        output.note("Type the message; Ctrl-D on a new line sends it, Ctrl-C does not.")

    async def work() -> int:
        pieces = await read_first(source)
        async with (
            open_api(config("pubsub")) as api,
            waiting("looking for somebody who is in the topic", quiet=as_json),
        ):
            published = await api.write(Publish(topic=topic, connect=connect), pieces)
        if not published.peers:
            return missed(published, "nobody is known who is in this topic: nobody heard it", as_json=as_json)
        if as_json:
            output.json_line(published)
        else:
            output.note(f"sent to {output.count(published.peers, 'peer')} of the topic, who pass it on")
        return OK

    return run_async(work)


@pubsub.command("sub")
@click.argument("topic", type=TOPIC)
@connect_option
@tells(Message, "every message")
def sub(topic: str, connect: tuple[Multiaddr, ...], as_lines: bool) -> None:
    """Print the messages of a topic, one a line, until Ctrl-C."""

    async def work(api: Api) -> None:
        dropped = 0
        async with api.watch(Subscribe(topic=topic, connect=connect)) as events:
            async with waiting("waiting: whom to connect to does not answer yet", quiet=not connect):
                await anext(events)  # Subscribed
            output.note(f"in topic {topic}; Ctrl-C ends it")
            async for event in events:
                assert not isinstance(event, Subscribed)
                if event.dropped > dropped:
                    lost, dropped = event.dropped - dropped, event.dropped
                    output.note(f"{output.count(lost, 'message')} were lost: they came faster than they were read")
                if as_lines:
                    _print_json(event)
                else:
                    _print(event.data)

    run_async(lambda: with_api(config("pubsub"), {}, work))


def _print_json(message: TopicMessage) -> None:
    try:
        text, encoding = message.data.decode(), "text"
    except UnicodeDecodeError:
        text, encoding = b64encode(message.data).decode(), "base64"
    output.event_line(
        Message(
            topic=message.topic,
            author=message.author,
            seqno=message.seqno,
            id=message.id,
            data=text,
            encoding=encoding,
            dropped=message.dropped,
        )
    )


def _print(data: bytes) -> None:
    """One line, whatever is in it: line ends and what a terminal would obey are escaped, `--jsonl` gives the bytes."""
    output.data(printable(data.decode(errors="surrogateescape")))


@pubsub.command("ls")
@answers(TopicInfo, many=True)
def list_topics(as_json: bool) -> None:
    """Topics that the running node is in."""

    async def work() -> None:
        async with open_api(config("pubsub")) as api:
            rows = await api.ask(ListTopics())
        if as_json:
            output.json_line(rows)
            return
        for row in rows:
            output.data(f"{printable(row.topic)}  {output.count(row.peers, 'peer')}, {row.mesh} in the mesh")
        if not rows:
            output.note("in no topic")

    run_async(work)


@pubsub.command("peers")
@click.argument("topic", type=TOPIC, required=False)
@answers(TopicPeer, many=True)
def peers(topic: str | None, as_json: bool) -> None:
    """Peers that speak gossipsub, or those of them that are in TOPIC."""

    async def work() -> None:
        async with open_api(config("pubsub")) as api:
            rows = await api.ask(ListTopicPeers(topic=topic))
        if as_json:
            output.json_line(rows)
            return
        for row in rows:
            output.data(f"{row.peer_id}  {'mesh' if row.mesh else '-'}  score {row.score:.1f}")
        if not rows:
            output.note("no peers")

    run_async(work)
