"""Fifty nodes on one clock: real routers, real machines, links of 50 ms."""

from stack.announce.events import ShardChanged
from stack.announce.keyspace import announce_key, level_of
from stack.announce.params import AnnounceParams
from tests.announce.network import Network, Node, root_of

SMALL = AnnounceParams(
    split_bytes=12_000,
    merge_bytes=3_000,
    members_min=6,
    members_few=2,
    level_interval=20,
    overlap=60,
    degree=5,
    sync_interval=60,
    update_interval=5,
)
"""Figures at which fifty nodes are a large network."""


def grown(count: int = 50, roots: int = 10, params: AnnounceParams = SMALL, heartbeat: float = 1.0) -> Network:
    """A network of nodes that came one after the other, each knowing three others, and announce some roots."""
    network = Network(params=params, heartbeat=heartbeat)
    network.add(2)
    network.connect(0, 1)
    network.run(12)
    for _ in range(count - 2):
        join(network, roots)
        network.run(0.5)
    return network


def join(network: Network, roots: int = 0) -> Node:
    known = list(network.nodes)
    [node] = network.add()
    for other in network.random.sample(known, min(3, len(known))):
        network.connect(node.number, other)
    for number in range(roots):
        node.announce(root_of((node.number, number)))
    return node


def seek(network: Network, seekers: list[Node], author: Node, number: int = 0) -> list[float]:
    """How long each took to find an author; those that did not within 3 s are left out."""
    took = []
    for seeker in seekers:
        began = network.net.now
        lookup = seeker.find(root_of((author.number, number)))
        network.run(3)
        times = [at for at, record in seeker.found.get(lookup, []) if record.author == author.id]
        took += [times[0] - began] if times else []
        seeker.machine.stop(lookup)
        seeker.pump()
    return took


def levels(network: Network) -> set[int]:
    return {level_of(node.machine.shard) for node in network.nodes.values() if node.machine.shard is not None}


def test_a_seeker_that_knows_only_a_bootstrap_node_finds_an_author_in_less_than_a_second() -> None:
    network = Network()
    [bootstrap] = network.add()
    network.run(20)
    [author] = network.add()
    author.announce(root_of((1, 0)))
    network.connect(author.number, bootstrap.number)
    network.run(2)
    assert author.machine.waiting == 0
    [seeker] = network.add()
    network.connect(seeker.number, bootstrap.number)
    [took] = seek(network, [seeker], author)
    assert took <= 0.11
    assert bootstrap.machine.items == ()


def test_tables_are_split_by_load_and_everything_is_found_before_while_and_after() -> None:
    network = grown()
    random = network.random
    seen: set[int] = set()
    for _ in range(20):
        author = network.nodes[random.randrange(2, 50)]
        seekers = [network.nodes[random.randrange(0, 50)] for _ in range(2)]
        took = seek(network, [seeker for seeker in seekers if seeker is not author], author, random.randrange(0, 10))
        assert all(time < 1 for time in took)
        assert len(took) == len([seeker for seeker in seekers if seeker is not author])
        seen |= levels(network)
        network.run(6)
    assert max(seen) >= 2
    deepest = levels(network)
    assert max(deepest) - min(deepest) <= 2
    assert all(node.machine.loaded for node in network.nodes.values())
    loads = [node.machine.table.load for node in network.nodes.values()]
    assert max(loads) < 2 * SMALL.split_bytes


def test_shards_become_one_again_when_the_load_has_gone() -> None:
    network = grown(30, roots=16, heartbeat=30.0)
    network.run(200)
    before = levels(network)
    for node in network.nodes.values():
        for item in node.machine.items[1:]:
            node.withdraw(item.root)
    for number in range(8, 30):
        network.leave(number)
    network.run(7600)
    assert min(levels(network)) < min(before)
    author = network.nodes[5]
    author.announce(root_of("one more"))
    network.run(30)
    assert len(seek(network, [network.nodes[1], network.nodes[7]], author)) == 2


def test_nodes_come_and_go_and_lookups_still_succeed() -> None:
    network = grown(40)
    random = network.random
    found = asked = 0
    for _ in range(20):
        network.leave(random.sample([number for number in network.nodes if number > 1], 1)[0])
        join(network, 10)
        network.run(10)
        settled = [node for node in network.nodes.values() if node.machine.waiting == 0 and node.machine.items]
        author = random.sample(settled, 1)[0]
        seeker = random.sample([node for node in network.nodes.values() if node is not author], 1)[0]
        asked += 1
        found += len(seek(network, [seeker], author, random.randrange(0, 10)))
    assert found >= asked - 1


def test_two_halves_that_were_apart_find_each_other_s_roots_after_they_have_healed() -> None:
    network = grown(30)
    network.run(120)
    network.cut = lambda one, other: one % 2 != other % 2
    for one, other in [(one, other) for one, others in network.links.items() for other in others]:
        if network.cut(one, other):
            network.disconnect(one, other)
    network.run(60)
    author, seeker = network.nodes[4], network.nodes[7]
    author.announce(root_of((4, "new")))
    network.run(30)
    lookup = seeker.find(root_of((4, "new")))
    network.run(20)
    assert seeker.authors(lookup) == set()
    network.cut = lambda one, other: False
    for number in range(0, 30, 3):
        network.connect(number, (number + 1) % 30)
    network.run(90)
    assert seeker.authors(lookup) == {4}


def test_an_announced_root_shows_its_key_only_and_a_public_one_its_name() -> None:
    network = grown(10, roots=0)
    network.log = []
    secret, public = root_of("secret"), root_of("public")
    network.nodes[3].announce(secret)
    network.nodes[4].announce(public, "Public Thing")
    network.run(60)
    network.nodes[5].find(secret)
    network.run(60)
    said = b"".join(data for _, _, _, _, data in network.log)
    assert announce_key(secret.multihash) in said
    assert secret.digest not in said
    assert public.digest in said and b"Public Thing" in said


def test_what_is_not_announced_leaves_no_trace() -> None:
    network = grown(10, roots=0)
    network.log = []
    network.run(300)
    said = b"".join(data for _, _, _, _, data in network.log)
    assert announce_key(root_of("unlisted").multihash) not in said


def test_a_name_is_found_from_everywhere() -> None:
    network = grown(40)
    network.nodes[7].announce(root_of("film"), "A Rare Zeppelin Film.mkv")
    network.run(60)
    for number in (0, 11, 38):
        lookup = network.nodes[number].search("zeppelin film")
        network.run(3)
        names = [name.name for _, record in network.nodes[number].found[lookup] for name in record.names]
        assert "A Rare Zeppelin Film.mkv" in names


def test_the_same_seed_gives_the_same_run() -> None:
    runs = []
    for _ in range(2):
        network = grown(20)
        network.log = []
        network.run(120)
        runs.append(network.log)
    assert runs[0] == runs[1]


def test_a_withdrawn_root_is_found_nowhere() -> None:
    network = grown(30)
    author = network.nodes[9]
    author.withdraw(root_of((9, 0)))
    network.run(60)
    assert seek(network, [network.nodes[n] for n in (0, 5, 20)], author) == []
    assert len(seek(network, [network.nodes[0]], author, 1)) == 1


def test_a_refreshed_record_lives_on_and_that_of_a_dead_author_ends() -> None:
    network = grown(8, roots=2, heartbeat=30.0)
    network.leave(6)
    dead, alive = root_of((6, 0)), network.nodes[5]
    network.run(7400)
    lookup = network.nodes[0].find(dead)
    network.run(5)
    assert network.nodes[0].found.get(lookup, []) == []
    assert len(seek(network, [network.nodes[0]], alive)) == 1
    changes = [event for event in network.nodes[0].events if isinstance(event, ShardChanged)]
    assert changes[0].old is None
