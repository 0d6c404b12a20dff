"""Makes docs/settings.md from the table of settings: `python -m tests.cli.settings_page`."""

from pathlib import Path

import stack
from stack.cli.environment import ALONE
from stack.node.config import Config
from stack.node.settings import SETTINGS, shown, variable

PAGE = Path(stack.__file__).parent.parent / "docs" / "settings.md"

HEAD = """# Settings

What holds for a node comes, in this order, from a flag of the command, from the environment (`STACK_` and the name), from `config.toml`
in the home, or it is the default. `stack config ls` shows all that hold now, `stack config explain [KEY]` also what they mean and where
each comes from; `stack config set KEY VALUE` changes one in the file and leaves the rest of it as it is, `stack config unset KEY` takes it
out. A node that runs takes a change at its next start. What is no setting, or has no such value, is told with the line it stands in.

Sizes and rates are in bytes, with `K`, `M`, `G`, `T` of 1,024 each. In a program they are fields of `Config` ([library](library.md)).

| setting | what it is for | form | default | flag | environment |
|---|---|---|---|---|---|
"""

TAIL = """
In the environment only, because they say which home, or what one command does:

"""

FOOT = """
A wrong value ends the command with code 2; a variable that begins with `STACK_` and is none of these is told on stderr, with the
nearest name.
"""


def page() -> str:
    """The whole page."""
    usual = Config(home=Path("/home"), mdns=True, remember_peers=True)
    rows = []
    for name, setting in SETTINGS.items():
        form = " or ".join(f"`{choice}`" for choice in setting.choices) or setting.kind
        flag = f"`{setting.flag}`" if setting.flag else ""
        default = shown(name, getattr(usual, name))
        rows.append(f"| `{name}` | {setting.meaning} | {form} | `{default}` | {flag} | `{variable(name)}` |\n")
    return HEAD + "".join(rows) + TAIL + "".join(f"- `{name}`: {meaning}\n" for name, meaning in ALONE.items()) + FOOT


if __name__ == "__main__":
    PAGE.write_text(page())
