"""Tickets as they are used at the command line: whole, below a path, pasted, piped, streamed (use 2, 12, 18, 22, 24, 25, 31)."""

import signal
import socket
from dataclasses import replace
from pathlib import Path

from stack.files.ticket import decode_ticket, encode_ticket
from stack.multiformats.multiaddr import Multiaddr
from tests.acceptance.kit import Machine, complaint, good, until


def holiday(sharer: Machine) -> Path:
    folder = sharer.folder / "holiday"
    (folder / "day one").mkdir(parents=True)
    (folder / "day one" / "b c.txt").write_bytes(b"second\n")
    (folder / "a.txt").write_bytes(b"first\n")
    return folder


def test_a_ticket_does_what_a_cid_does_with_a_path_below_it_too(sharer: Machine, receiver: Machine) -> None:
    with sharer.sharing(holiday(sharer), "--no-preserve-mtime") as (_, shared):
        ticket = shared["ticket"]
        listed = good(receiver.run("ls", ticket))
        assert [line.split(" ", 2)[2] for line in listed.out.splitlines()] == ["a.txt", "day one/"]
        assert "2 files, 13 B in all" in listed.err
        assert good(receiver.run("ls", f"{ticket}/day one")).out.endswith(" 7 b c.txt\n")
        assert good(receiver.run("ls", f"{ticket}/a.txt")).out.endswith(" 6 a.txt\n")
        assert good(receiver.run("cat", f"{ticket}/day one/b c.txt")).out == "second\n"
        assert good(receiver.run("get", f"{ticket}/day one/b c.txt", "-o", "-")).out == "second\n"
        assert list(receiver.folder.iterdir()) == []
        good(receiver.run("get", f"{ticket}/day one"))
        assert (receiver.folder / "day one" / "b c.txt").read_bytes() == b"second\n"
        cid = good(receiver.run("pin", "add", f"{ticket}/a.txt")).out.split()[1]
        assert good(receiver.run("block", "get", f"{ticket}/a.txt")).out == "first\n"
        assert good(receiver.run("block", "stat", cid)).out.endswith("Size: 6\n")
        good(receiver.run("car", "export", ticket, receiver.folder / "all.car"))
        good(receiver.run("pin", "rm", f"{ticket}/a.txt"))


def test_a_ticket_is_read_from_stdin_a_file_and_the_environment(sharer: Machine, place: Path) -> None:
    source = sharer.folder / "note.txt"
    source.write_bytes(b"note\n")
    with sharer.sharing(source) as (_, shared):
        ticket: str = shared["ticket"]
        quoted = f"Hello,\n> <{ticket[:60]}\n> {ticket[60:]}>.\n".encode()
        for number, (arguments, data, settings) in enumerate(
            (
                (["get"], quoted, {}),
                (["get", "-"], ticket.encode(), {}),
                (["get"], None, {"STACK_TICKET": ticket}),
                (["get", "mail.txt"], None, {}),
            )
        ):
            machine = Machine(place / f"r{number}", settings=settings)
            (machine.folder / "mail.txt").write_bytes(quoted)
            good(machine.run(*arguments, data=data))
            assert (machine.folder / "note.txt").read_bytes() == b"note\n"


def test_what_is_no_ticket_is_told_in_one_plain_sentence(sharer: Machine) -> None:
    assert "hello is no ticket (those begin with stack:) and no CID" in complaint(sharer.run("get", "hello"), 2)
    name = "k51qzi5uqu5dgutdk6i1ynyzgkqngpha5xpgia3a5qqp4jsh0u4csozksxel2r"
    for text in (name, f"/ipns/{name}", "ipns://example.org"):
        complaint(sharer.run("get", text), 2, "IPNS name")


def test_only_the_last_name_of_the_output_is_made(sharer: Machine, receiver: Machine) -> None:
    source = sharer.folder / "note.txt"
    source.write_bytes(b"note\n")
    with sharer.sharing(source) as (_, shared):
        complaint(receiver.run("get", shared["ticket"], "-o", "no/such/x"), 7, "does not exist", "make it first")
        assert list(receiver.folder.iterdir()) == []
        good(receiver.run("get", shared["ticket"], "-o", "new/"))
        assert (receiver.folder / "new" / "note.txt").read_bytes() == b"note\n"


def test_an_address_without_a_peer_is_that_of_the_ticket(sharer: Machine, receiver: Machine) -> None:
    """Of use 2: the friend's router forwards the port, and the ticket does not know it."""
    source = sharer.folder / "note.txt"
    source.write_bytes(b"note\n")
    with sharer.sharing(source) as (_, shared):
        there = decode_ticket(shared["ticket"])
        wrong = (Multiaddr.parse("/ip4/127.0.0.1/tcp/1"),)
        ticket = encode_ticket(replace(there, addresses=wrong))
        port = there.addresses[0].get("tcp")
        good(receiver.run("get", ticket, "--from", f"127.0.0.1:{port}", "--timeout", "20s"))
        assert (receiver.folder / "note.txt").read_bytes() == b"note\n"
        complaint(receiver.run("get", str(there.root), "--from", f"127.0.0.1:{port}"), 7, "does not say who is there")


def test_addresses_that_the_owner_says_stand_first_in_tickets(sharer: Machine) -> None:
    source = sharer.folder / "note.txt"
    source.write_bytes(b"note\n")
    with sharer.sharing(source, "--external", "203.0.113.11:43851") as (process, shared):
        assert str(decode_ticket(shared["ticket"]).addresses[0]) == "/ip4/203.0.113.11/tcp/43851"
        until(lambda: "reached at 203.0.113.11:43851" in process.err, 20, "where others are told to come")
    good(sharer.run("config", "set", "external", "cloud.example.org:4001 [2001:db8::1]:4002"))
    with sharer.sharing(source) as (_, shared):
        told = [str(address) for address in decode_ticket(shared["ticket"]).addresses]
        assert set(told[:2]) == {"/dns/cloud.example.org/tcp/4001", "/ip6/2001:db8::1/tcp/4002"}
    complaint(sharer.run("share", source, "--external", "nowhere"), 2, "HOST:PORT")


def test_a_ticket_is_printed_again_for_what_is_shared_by_path_name_and_cid(sharer: Machine) -> None:
    source = sharer.folder / "note.txt"
    source.write_bytes(b"note\n")
    with sharer.sharing(source) as (_, shared):
        for target in ("note.txt", str(source), shared["cid"], shared["ticket"]):
            assert good(sharer.run("ticket", target)).out.strip() == shared["ticket"]
        assert sharer.run("ticket", "other.txt").code == 3


def test_what_is_seeded_has_a_ticket_of_this_node_also_while_none_runs(sharer: Machine, place: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    receiver = Machine(place / "b", listen=f"/ip4/127.0.0.1/tcp/{port}")
    source = sharer.folder / "note.txt"
    source.write_bytes(b"note\n")
    flags = ("--seed", "--keep", "--external", "203.0.113.11:7")
    with sharer.sharing(source) as (_, shared), receiver.start("get", *flags, shared["ticket"]) as process:
        until(lambda: "serving it" in process.err, 20, "the seed")
        seeded = decode_ticket(good(receiver.run("ticket", "note.txt")).out.strip())
        assert str(seeded.addresses[0]) == "/ip4/203.0.113.11/tcp/7"
        process.send(signal.SIGINT)
        process.wait(20)
    again = good(receiver.run("ticket", "note.txt"))
    there = decode_ticket(again.out.strip())
    assert there.root == decode_ticket(shared["ticket"]).root and there.peer != decode_ticket(shared["ticket"]).peer
    assert [str(address) for address in there.addresses] == [f"/ip4/127.0.0.1/tcp/{port}"]
    assert "stack daemon" in again.err


def test_a_ticket_of_what_is_here_in_part_says_so_and_how_others_get_that_part(
    sharer: Machine, receiver: Machine, place: Path
) -> None:
    """It was the ticket of all, without a word; whoever had it waited for what is not here."""
    with sharer.sharing(holiday(sharer)) as (_, shared):
        ticket, cid = shared["ticket"], shared["cid"]
        with receiver.start("get", "--seed", f"{ticket}/day one/b c.txt") as process:
            until(lambda: "serving it" in process.err, 20, "the seed")
            told = good(receiver.run("ticket", cid))
            assert (
                "Only day one/b c.txt of it is here: give others the ticket with /day one/b c.txt behind it" in told.err
            )
            other = Machine(place / "c")
            there = decode_ticket(told.out.strip())
            addresses = [str(each.with_peer(str(there.peer))) for each in there.addresses]
            assert addresses and decode_ticket(ticket).peer != there.peer
            good(other.run("get", f"{told.out.strip()}/day one/b c.txt", "--timeout", "10s"))
            assert (other.folder / "b c.txt").read_bytes() == b"second\n"
            process.send(signal.SIGINT)
            process.wait(20)
        with receiver.start("get", "--seed", "--include", "a.txt", ticket) as process:
            until(lambda: "serving it" in process.err, 20, "the seed")
            assert "Only a part of it is here: what is in" in good(receiver.run("ticket", cid)).err
            good(receiver.run("repo", "verify"))
            process.send(signal.SIGINT)
            process.wait(20)


def test_what_a_killed_command_shared_is_said_to_be_served_by_what_does_serve_it(
    sharer: Machine, receiver: Machine
) -> None:
    """The daemon was named, which drops what a command owned that is no more."""
    folder = holiday(sharer)
    with sharer.sharing(folder) as (process, shared):
        with receiver.start("get", "--seed", shared["ticket"]) as seed:
            until(lambda: "serving it" in seed.err, 20, "the seed")
            seed.send(signal.SIGKILL)
            seed.wait(20)
        told = good(receiver.run("ticket", shared["cid"])).err
        assert "daemon" not in told and "`get --seed` of it has ended" in told and "stack share " in told
        process.send(signal.SIGKILL)
        process.wait(20)
    told = good(sharer.run("ticket", folder)).err
    assert "daemon" not in told and f"`stack share {folder}` does" in told


def test_what_has_no_name_is_told_how_to_get_one(sharer: Machine, receiver: Machine) -> None:
    source = sharer.folder / "note.txt"
    source.write_bytes(b"note\n")
    cid = good(sharer.run("add", "-q", source)).out.strip()
    with sharer.sharing(source, "--open") as (_, shared):
        there = decode_ticket(shared["ticket"])
        address = str(there.addresses[0].with_peer(str(there.peer)))
        # Who shares it knows its name.
        assert "gives it a name" not in good(receiver.run("get", shared["cid"], "--from", address)).err
        assert (receiver.folder / "note.txt").exists()
    with sharer.daemon():
        assert "-o NAME gives it a name" in good(receiver.run("get", cid, "--from", sharer.address())).err


def test_a_cid_that_nobody_can_have_is_told_why_once(receiver: Machine) -> None:
    cid = "bafkreignezrbkttno2zlfojoodamvq6m6u2ptn2oww4jqgpmkciihuakka"
    said = complaint_with(receiver, cid)
    assert said.count("No DHT is used") == 1 and "No bootstrap peer is set" in said


def complaint_with(machine: Machine, cid: str) -> str:
    outcome = machine.run("get", cid, "--timeout", "2s")
    assert outcome.code == 3
    return outcome.err
