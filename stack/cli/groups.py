"""How commands are listed and found: groups that print their help whole, and know the words of other tools.

A group that is named alone was asked what is in it: it answers with its help on stdout, as for `--help`, and that is no mistake.
"""

import click

SECTIONS: dict[str, dict[str, str]] = {
    "Every day": {
        "share": "Share files or directories where they lie; prints a ticket for others to `stack get`.",
        "get": "Fetch what a ticket or CID names, from everybody who has it at once.",
        "shares": "What I share, and to whom it went.",
        "ticket": "Print the ticket of something that is shared, seeded or pinned here, with this node's addresses of now.",
        "jobs": "Fetches: those that run, wait to go on, or have ended of late.",
        "find": "Find what others share under a public name (`stack share --public NAME`) that has all these words.",
        "announce": "What this node tells others that it has; `stack share --announce` and `--public` add to it.",
    },
    "Files and blocks": {
        "ls": "List a directory: CID, size, name; then how much there is below it in all.",
        "cat": "Print a file.",
        "add": "Add files or directories and print the root CID of each (last line).",
        "pin": "Roots that garbage collection keeps.",
        "gc": "Free the space of blocks that no pin, share or running fetch needs.",
        "repo": "The repository of this home.",
        "car": "Archives of blocks (CAR).",
        "block": "Single blocks.",
    },
    "The node": {
        "daemon": "Run a node: serve what is shared, and do what other commands of this home ask.",
        "stop": "End the daemon of this home, and wait until it has ended.",
        "id": "Who this node is: peer id, addresses, protocols.",
        "peers": "Peers this node is connected to.",
        "connect": "Connect the running node to a peer.",
        "disconnect": "Close all connections to a peer; either side may connect again.",
        "ping": "Measure the round trip to a peer.",
        "providers": "Who announces that it has what a CID names: who, by whom that is known, how old it is, and where.",
        "pubsub": "Messages to everybody who is in a topic.",
        "key": "The identity of this home.",
        "config": "The settings of this home (config.toml).",
    },
    "This machine": {
        "doctor": "Check this machine, the home and the network, and say what to do.",
        "bench": "What this machine does, and which step limits.",
        "demo": "Show it: one shares, several find it by its CID, fetch and help each other, the sharer is killed, all finish.",
        "completion": "Print a script that teaches a shell what Tab offers after `stack`.",
        "schema": "Print the JSON Schema of what all commands print with --json and --jsonl.",
    },
}
"""Headings of `stack --help`, and below each the commands with what their files say of them, so that none of these is loaded. A command
that stands below none of them, as one of a plug-in, comes last."""

ELSEWHERE: dict[str, str] = {
    "add-torrent": "get",
    "clone": "get",
    "cp": "get",
    "download": "get",
    "fetch": "get",
    "magnet": "get",
    "pull": "get",
    "torrent": "get",
    "sync": "get --update",
    "update": "get --update",
    "recv": "get",
    "receive": "get",
    "seed": "get --seed",
    "put": "add",
    "import": "car import",
    "export": "car export",
    "push": "share",
    "scan": "share",
    "send": "share",
    "serve": "share",
    "host": "share",
    "relay": "daemon --relay",
    "upload": "share",
    "search": "find",
    "findprovs": "providers",
    "name publish": "share --public",
    "publish": "share --public",
    "delete": "shares rm",
    "remove": "shares rm",
    "rm": "shares rm",
    "unshare": "shares rm",
    "folders": "shares ls",
    "list": "shares ls",
    "ps": "jobs",
    "queue": "jobs",
    "tell-active": "jobs",
    "top": "jobs",
    "cancel": "jobs cancel",
    "pause": "jobs pause",
    "unpause": "jobs resume",
    "resume": "jobs resume",
    "jobs unpause": "jobs resume",
    "jobs clear": "jobs rm --ended",
    "jobs list": "jobs ls",
    "jobs stop": "jobs pause",
    "jobs start": "jobs resume",
    "dag": "block",
    "dag export": "car export",
    "dag import": "car import",
    "files": "ls",
    "refs": "ls",
    "tar": "car",
    "object": "block",
    "object get": "block get",
    "pin list": "pin ls",
    "pin remove": "pin rm",
    "pins": "pin ls",
    "unpin": "pin rm",
    "show": "cat",
    "stat": "repo stat",
    "verify": "repo verify",
    "repo gc": "gc",
    "repo ls": "pin ls",
    "generate": "key new",
    "key gen": "key new",
    "key list": "key show",
    "key ls": "key show",
    "config list": "config ls",
    "config show": "config ls",
    "config edit": "config set",
    "config remove": "config unset",
    "config reset": "config unset",
    "config rm": "config unset",
    "chat": "pubsub",
    "block rm": "gc",
    "swarm": "peers",
    "swarm peers": "peers",
    "swarm addrs": "peers",
    "swarm connect": "connect",
    "swarm disconnect": "disconnect",
    "devices": "peers",
    "peer": "peers",
    "remote": "peers",
    "dht": "providers",
    "dht findprovs": "providers",
    "routing": "providers",
    "routing findprovs": "providers",
    "bootstrap": "config set bootstrap",
    "bootstrap list": "config get bootstrap",
    "stats": "peers",
    "bitswap": "peers",
    "info": "id",
    "whoami": "id",
    "init": "daemon",
    "run": "daemon",
    "start": "daemon",
    "up": "daemon",
    "down": "stop",
    "kill": "stop",
    "shutdown": "stop",
    "status": "doctor",
    "diag": "doctor",
    "check": "doctor",
    "limit": "config set upload_limit",
    "settings": "config ls",
    "version": "--version",
    "commands": "--help",
    "help": "--help",
    "man": "--help",
    "docs": "--help",
}
"""What people type who know croc, magic-wormhole, Kubo, Syncthing or a BitTorrent client: how it is called here."""

NOT_SO: dict[str, str] = {
    "cid": "`stack ls CID` and `stack block stat CID` tell what a CID is, `stack add --only-hash FILE` computes one",
    "gateway": "there is no page for browsers: `stack get` fetches what others have",
    "log": "a daemon writes daemon.log into its home (`stack id` shows where); `stack -v COMMAND` shows what a command does",
    "mount": "nothing is mounted: `stack get` fetches a tree, `stack get --update` brings it to another version",
    "name": "no name moves from one version to the next: share the new one, and `stack get --update TICKET` brings it",
    "restart": "`stack stop`, then `stack daemon --detach`",
    "shell": "each command is typed by itself; `stack completion bash` makes Tab finish it",
    "upgrade": "it is upgraded as it was installed",
}
"""The same, where it takes more than another word."""

NOT_SO |= {
    other: NOT_SO[one] for other, one in (("logs", "log"), ("tail", "log"), ("web", "gateway"), ("gui", "gateway"))
}


class Group(click.Group):
    """A command that has commands."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click, which would print the help of a group named alone as a mistake."""
        if not args and self.no_args_is_help and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), color=ctx.color)
            ctx.exit()
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click, with an answer when a name is mistyped, or is that of another tool."""
        name = args[0] if args else ""
        if args and not name.startswith("-") and self.get_command(ctx, name) is None:
            raise click.UsageError(self._answer(ctx, args))
        return super().resolve_command(ctx, args)

    def _answer(self, ctx: click.Context, args: list[str]) -> str:
        from difflib import get_close_matches

        path = ctx.command_path
        above = path.split()[1:]
        for length in (2, 1):
            here = ELSEWHERE.get(" ".join([*above, *args[:length]]))
            if here is not None and len(args) >= length:
                return f"`{' '.join(['stack', *above, *args[:length]])}` is `stack {here}` here."
        name = args[0]
        if not above and name in NOT_SO:
            return f"there is no command {name!r}: {NOT_SO[name]}."
        close = get_close_matches(name, self.list_commands(ctx), n=1)
        hint = f" Did you mean `{path} {close[0]}`?" if close else f" `{path} --help` lists all."
        return f"there is no command {name[:40]!r}.{hint}"

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """As click, but in sections and with summaries that are whole."""
        rows = self.summaries(ctx, self.list_commands(ctx))
        width = max(map(len, rows), default=0)
        for title, names in self.sections(list(rows)).items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), rows[name]) for name in names])

    def summaries(self, ctx: click.Context, names: list[str]) -> dict[str, str]:
        """What is said of each of these commands."""
        commands = {name: self.get_command(ctx, name) for name in names}
        return {
            name: command.get_short_help_str(1000)
            for name, command in commands.items()
            if command is not None and not command.hidden
        }

    def sections(self, names: list[str]) -> dict[str, list[str]]:
        """Headings, and what stands below each."""
        return {"Commands": names} if names else {}
