"""What a run comes to: a table for the screen, JSON, and pictures. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.figures import End, Figure, Kind, Spread, number, ratios
from tests.svg import Bar, bar_chart

MIB = 1 << 20
MIB_A_GIB = 1024

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A row, measured."""

    title: str
    unit: str
    more: bool
    size: int
    mib: bool
    anchors: tuple[str, ...]
    kinds: tuple[Kind, ...]
    missing: tuple[str, ...]
    """Anchors that were not run, with the reason."""
    load: tuple[float, ...]
    """Of the machine, before each run."""
    date: str = ""

    @property
    def ratios(self) -> dict[tuple[str, str], Spread]:
        """How many times better each of ours is than each anchor."""
        return ratios(self.kinds, self.anchors, more=self.more)

    @property
    def amount(self) -> float:
        """By what CPU-seconds are divided."""
        return self.size / MIB_A_GIB if self.mib else 1.0

    def cpu(self, kind: Kind) -> str:
        """CPU-seconds of the ends, a GiB where the size is MiB."""
        ends = kind.cpu
        if len(ends) > 3:
            return number(sum(end.median for end in ends.values()) / self.amount)
        return " + ".join(number(end.median / self.amount) for end in ends.values())


def text(row: Measured) -> str:
    """A row for the screen."""
    size = f"{row.size:,} MiB" if row.mib else f"{row.size:,}"
    pairs = max((len(kind.figures) for kind in row.kinds), default=0)
    load = f"load {min(row.load):.1f} to {max(row.load):.1f}" if row.load else "not run"
    lines = [f"{row.title}: {row.unit}, size {size}, {pairs} times, {load}"]
    for kind in row.kinds:
        ends = kind.cpu
        a_gib = " a GiB" if row.mib else ""
        taken = f"  CPU {row.cpu(kind)} s{a_gib}" if ends else ""
        peak = " + ".join(f"{end.median / MIB:.0f}" for end in kind.peak.values()) if len(ends) <= 3 else ""
        line = f"  {kind.name:24} {kind.value!s:32}{taken}{f'  peak {peak} MiB' if peak else ''}"
        lines.append(line.rstrip())
    for (ours, anchor), times in row.ratios.items():
        lines.append(f"  {ours} : {anchor} = {times}")
    lines += [f"  not run: {reason}" for reason in row.missing]
    return "\n".join(lines)


def as_json(rows: Mapping[str, Measured]) -> Json:
    """All of them, for programs."""
    return {
        name: {
            "title": row.title,
            "unit": row.unit,
            "more": row.more,
            "size": row.size,
            "mib": row.mib,
            "anchors": list(row.anchors),
            "missing": list(row.missing),
            "load": [round(load, 2) for load in row.load],
            "date": row.date,
            "kinds": {
                kind.name: [
                    {
                        "value": round(figure.value, 3),
                        "ends": {end.name: {"cpu": round(end.cpu, 3), "peak": end.peak} for end in figure.ends},
                    }
                    for figure in kind.figures
                ]
                for kind in row.kinds
            },
            "ratios": {f"{ours} : {anchor}": round(times.median, 3) for (ours, anchor), times in row.ratios.items()},
        }
        for name, row in rows.items()
    }


def from_json(rows: Json) -> dict[str, Measured]:
    """The other way."""
    return {
        name: Measured(
            title=row["title"],
            unit=row["unit"],
            more=row["more"],
            size=row["size"],
            mib=row["mib"],
            anchors=tuple(row["anchors"]),
            missing=tuple(row["missing"]),
            load=tuple(row["load"]),
            date=row["date"],
            kinds=tuple(
                Kind(
                    kind,
                    tuple(
                        Figure(
                            figure["value"],
                            tuple(End(end, took["cpu"], took["peak"]) for end, took in figure["ends"].items()),
                        )
                        for figure in figures
                    ),
                )
                for kind, figures in row["kinds"].items()
            ),
        )
        for name, row in rows.items()
    }


def bars(rows: Sequence[Measured]) -> str:
    """A picture of all rows, ours beside the anchors."""
    groups: dict[str, list[Bar]] = {}
    for row in rows:
        size = f", {row.size:,} MiB" if row.mib else ""
        sense = "" if row.more else ", less is better"
        groups[f"{row.title}{size}: {row.unit}{sense}"] = [
            Bar(
                name=kind.name,
                value=kind.value.median,
                least=kind.value.least,
                most=kind.value.most,
                says=f"{number(kind.value.median)}{_times(row, kind)}",
                colour=0 if kind.name.startswith("stack") else 1,
            )
            for kind in row.kinds
        ]
    return bar_chart("Beside others: medians, with the least and the most", groups)


def _times(row: Measured, kind: Kind) -> str:
    """What stands beside the bar of an anchor: how many times better the first of ours is."""
    times = row.ratios.get((row.kinds[0].name, kind.name))
    return f"   ours {number(times.median)} x" if times is not None else ""
