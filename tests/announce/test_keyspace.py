"""Keys, words and shards."""

import pytest

from stack.announce.keyspace import (
    LEVEL_MAX,
    WHOLE,
    WORDS_MAX,
    Home,
    Shard,
    common_bits,
    compatible,
    covers,
    home_of_key,
    home_of_peer,
    key_range,
    level_of,
    shard_at,
    shard_of_topic,
    topic_of,
    words_of,
)
from tests.announce.build import a_key
from tests.announce.network import peer_of


def test_words_are_folded_and_taken_apart() -> None:
    assert words_of("The_Holiday-FILM (2026).mkv x") == ("the", "holiday", "film", "2026", "mkv")
    assert words_of("Straße ﬁlm ÉTÉ") == ("strasse", "film", "été")
    assert words_of("e\u0301te\u0301") == ("été",)
    assert words_of("a b . !") == ()
    assert words_of("film film") == ("film",)
    assert words_of("x" * 33) == ()
    assert len(words_of(" ".join(f"word{n}" for n in range(40)))) == WORDS_MAX


def test_a_shard_covers_what_begins_with_its_bits() -> None:
    zero, one, one_zero = Shard(2), Shard(3), Shard(6)
    assert covers(WHOLE, one_zero) and covers(one, one_zero) and covers(one, one)
    assert not covers(one_zero, one) and not covers(zero, one_zero)
    assert compatible(one_zero, one) and not compatible(zero, one)
    assert [level_of(shard) for shard in (WHOLE, one, one_zero)] == [0, 1, 2]


def test_a_key_is_in_the_shard_around_its_home() -> None:
    home = home_of_key(a_key(0b10110000))
    assert [shard_at(home, level) for level in (0, 1, 3)] == [1, 0b11, 0b1101]
    assert shard_at(home, LEVEL_MAX) == home
    for level in range(LEVEL_MAX + 1):
        first, behind = key_range(shard_at(home, level))
        assert first <= a_key(0b10110000) and (behind is None or a_key(0b10110000) < behind)
    assert key_range(Shard(0b101)) == (a_key(0x40), a_key(0x80))
    assert key_range(Shard(0b11)) == (a_key(0x80), None)


def test_nearness_is_the_number_of_common_bits() -> None:
    home = home_of_key(a_key(0b10110000))
    assert common_bits(home, home) == LEVEL_MAX
    assert common_bits(home, home_of_key(a_key(0b10100000))) == 3
    assert common_bits(home, home_of_key(a_key(0))) == 0
    assert home_of_peer(peer_of(1)) != home_of_peer(peer_of(2))
    assert level_of(Home(home_of_peer(peer_of(1)))) == LEVEL_MAX


@pytest.mark.parametrize(("shard", "topic"), [(1, "/stack/announce/1/"), (0b1011, "/stack/announce/1/011")])
def test_a_topic_spells_the_bits_of_a_shard(shard: int, topic: str) -> None:
    assert topic_of(Shard(shard)) == topic
    assert shard_of_topic(topic) == shard


@pytest.mark.parametrize("topic", ["", "news", "/stack/announce/1/012", "/stack/announce/1/" + "0" * 17])
def test_other_topics_are_about_no_shard(topic: str) -> None:
    assert shard_of_topic(topic) is None
