"""Curves of cost."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.bench import __main__ as command
from tests.bench.figures import End
from tests.bench.growth import CURVES, Curve, slope
from tests.bench.meter import Scene

MIB = 1 << 20


@pytest.mark.parametrize(
    ("points", "power"),
    [
        ([(1, 5.0), (10, 5.0), (100, 5.0)], 0.0),
        ([(1, 1.0), (10, 10.0), (100, 100.0), (200, 200.0)], 1.0),
        ([(10, 1.0), (100, 100.0)], 2.0),
        ([(10, 1.0), (50, 100.0)], 0.0),
        ([(10, 0.0), (100, 1.0)], 0.0),
        ([], 0.0),
    ],
)
def test_the_power_is_that_of_the_last_tenfold_growth(points: list[tuple[float, float]], power: float) -> None:
    assert slope(points) == pytest.approx(power)


def test_curves_are_told_drawn_and_kept_beside_others_and_what_fails_is_the_end_of_its_curve_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def cost(scene: Scene) -> tuple[End, ...]:
        if scene.size > 100:
            raise RuntimeError("it broke")
        return (End("node", scene.size / 10, MIB),)

    curves = {
        name: Curve(title="made up", x="things", cost=cost, points=points, quick=(1,))
        for name, points in (("one", (1, 10, 100, 1000, 10_000)), ("two", (1, 100)))
    }
    monkeypatch.setattr("tests.bench.growth.CURVES", curves)
    monkeypatch.setattr(command, "CURVES", curves)
    out = tmp_path / "results.json"
    out.write_text('{"rows": {}, "growth": {"zero": {}}}')
    assert command.main(["--growth", "one,two", "--out", str(out)]) == 1
    said = capsys.readouterr().out
    assert "one: 1,000 things FAILED: it broke" in said and "10,000" not in said
    assert said.count("node: CPU-seconds grow with the power 1.00") == 2
    kept = json.loads(out.read_text())
    assert kept["rows"] == {} and list(kept["growth"]) == ["zero", "one", "two"]
    assert kept["growth"]["two"]["100"] == {"node": {"cpu": 10.0, "peak": MIB}}
    names = {f"growth-{name}{what}.svg" for name in curves for what in ("", "-memory")}
    assert {path.name for path in tmp_path.glob("*.svg")} == names
    assert all(ElementTree.fromstring((tmp_path / name).read_text()) is not None for name in names)
    assert command.main(["--growth", "one", "--quick"]) == 0


def test_a_curve_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--growth", "nothing"])
    assert f"no curve nothing: {', '.join(CURVES)}" in capsys.readouterr().err
