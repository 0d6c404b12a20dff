"""multistream-select: whole negotiations and single messages, recorded from go-multistream."""

import json
from pathlib import Path
from typing import Any

import pytest

from stack.errors import NegotiationError, RemoteProtocolError
from stack.net.multistream import Proposer, Responder, TokenReader, encode_token
from stack.testing.pair import BytePair

VECTORS = json.loads((Path(__file__).parent / "wire" / "multistream.json").read_text())


def named(record: Any) -> str:
    return str(record["name"])


@pytest.mark.parametrize("record", VECTORS["negotiations"], ids=named)
def test_a_negotiation_equals_byte_for_byte(record: Any) -> None:
    link = BytePair(Proposer(record["client_offers"]), Responder(record["server_supports"]))
    if record["client_error"] is None:
        link.run()
        assert [event.protocol for event in link.first_events] == [record["agreed"]]
        assert [event.protocol for event in link.second_events] == [record["server_agreed"]]
    else:
        with pytest.raises(NegotiationError):
            link.run()
        assert link.second_events == []
    assert link.first_sent.hex() == record["client_to_server_hex"]
    assert link.second_sent.hex() == record["server_to_client_hex"]


@pytest.mark.parametrize("record", VECTORS["tokens"], ids=named)
def test_a_message_is_read_or_refused(record: Any) -> None:
    data = bytes.fromhex(record["hex"])
    reader = TokenReader()
    reader.append(data)
    if record["ok"]:
        token = reader.next_token()
        assert token == record["token"]
        rest = reader.take_rest()
        assert encode_token(token) + rest == data
    elif record["name"] == "cut":
        assert reader.next_token() is None
    else:
        with pytest.raises(RemoteProtocolError):
            reader.next_token()
