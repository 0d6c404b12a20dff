"""Codes as people say and type them: `4-otter-lamp-violin`. Pure."""

import re
from dataclasses import field

from stack.errors import DecodeError
from stack.sansio.interfaces import Randomness
from stack.values import dataclass

_LIST = """
academy acorn adobe agent alarm almond alpine amber anchor angel antler apple apron arch artist aspen atlas attic
autumn avocado badge balloon bamboo banjo barrel basket beaver berry bicycle bishop blizzard blossom bonfire bottle
boulder bracelet breeze broom bubble cabin cactus camel candle carpet cedar chalk chimney cinnamon circus clarinet
clover cobra coconut cottage cricket crown crystal cucumber cymbal daisy dance denim diamond dinner doctor dolphin
doorbell dragon drum eagle echo eclipse elbow elephant emerald engine envelope fabric falcon feather fern fiddle
fisherman flamingo flute forest fossil fountain freckle funnel galaxy garden gazelle geyser giraffe glacier goblet
gondola goose gorilla granite guitar hamster helmet honey hurdle iceberg igloo indigo iris island ivory jaguar
jasmine jersey jewel jigsaw juggler juniper kangaroo kayak kitchen kiwi koala ladder lagoon lamp lantern lavender
legend lemon leopard lettuce library lilac lobster locket macaroni magnet mammoth mandolin marble meadow mercury
midnight mirror mitten mosaic muffin museum mystery napkin nectar needle nickel ninja nomad north nugget nutmeg
oasis oboe ocean octopus olive onion opera orange orchid ostrich otter oxygen palace parrot pasture peach pelican
penguin pepper piano pickle pigeon pillow planet potato prairie pretzel pudding pumpkin pyramid quail queen rabbit
raccoon radish rainbow raven reptile rhubarb ruby sandal scarf scooter sculptor shelter shovel silver siren skeleton
snorkel sofa sponge squirrel stadium sugar summit sunset swan teapot temple thunder tiger toast tornado tourist
tractor treasure trophy trumpet tulip twilight umbrella unicorn vanilla village vinegar violin volcano voyage
vulture waffle walnut warrior waterfall weasel wheat whisker window wizard wolf wombat yacht zenith zeppelin zigzag
zodiac
"""
WORDS: tuple[str, ...] = tuple(_LIST.split())
"""256 nouns, chosen for this: no two begin with the same three letters, sound alike (Soundex), or are nearer than three letters to each
other, so that three letters of each word are enough, and what was misheard is no word."""
COUNT = 3
"""Words of a code: 24 bits, of which somebody who guesses has three (`offers.TRIES`)."""
NUMBER_MAX = 9999
LETTERS_MIN = 3
"""Of a word that is not typed whole."""

_SHAPE = re.compile(rf"\s*(\d{{1,4}})((?:[\s.,_-]+[a-z]{{2,20}}){{{COUNT}}})[\s.]*", re.IGNORECASE | re.ASCII)
_BY_START = {word[:LETTERS_MIN]: word for word in WORDS}


@dataclass(frozen=True, slots=True)
class Code:
    """The number is where both look for each other, and no secret; the words are the password."""

    number: int
    words: tuple[str, ...] = field(repr=False)

    def __str__(self) -> str:
        return "-".join((str(self.number), *self.words))

    @property
    def password(self) -> bytes:
        """What both put into the exchange."""
        return str(self).encode()


def make_words(random: Randomness) -> tuple[str, ...]:
    """The words of a new code; one may come twice."""
    return tuple(WORDS[random.randrange(0, len(WORDS))] for _ in range(COUNT))


def read_code(text: str) -> Code | None:
    """The code that somebody typed: with blanks or hyphens, in capitals, each word whole or its first letters. None for what is no code at
    all. Raises DecodeError for one with a word that there is not: it need not be tried."""
    found = _SHAPE.fullmatch(text)
    if found is None or not int(found[1]):
        return None
    words = re.split(r"[\s.,_-]+", found[2].lower())[1:]
    return Code(int(found[1]), tuple(map(_known, words)))


def _known(typed: str) -> str:
    word = _BY_START.get(typed[:LETTERS_MIN], "")
    if word.startswith(typed):
        return word
    from difflib import get_close_matches  # here: seldom needed

    close = get_close_matches(typed, WORDS, n=1)
    raise DecodeError(f"{typed} is no word of a code" + (f": {close[0]}?" if close else ""))
