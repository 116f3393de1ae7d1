"""Rules as people write them: every key is checked, and every error says where it is and what would do."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from vpbench.errors import ConfigError
from vpbench.gate_rules import Rule, Rules, load_rules

CONF = Path(__file__).resolve().parent.parent.parent / "conf" / "gate"
SHIPPED = sorted(path.stem for path in CONF.glob("*.yaml"))


def written(tmp_path: Path, text: str) -> Rules:
    file = tmp_path / "rules.yaml"
    file.write_text(text)
    return load_rules(str(file))


@pytest.mark.parametrize("name", SHIPPED)
def test_what_ships_is_read_by_name_and_by_path(name: str) -> None:
    by_name, by_path = load_rules(name), load_rules(str(CONF / f"{name}.yaml"))
    assert by_name.rules
    assert [rule.where for rule in by_name.rules] == [f"{name}: rules[0]"]
    assert len(by_name.rules) == len(by_path.rules)


def test_the_default_is_the_mean_rank_without_tolerance_at_five_percent() -> None:
    (rule,) = load_rules("default").rules
    assert rule == Rule("default: rules[0]", "*", "*", mean_rank=True, absolute=0.0, relative=0.0, test="paired", alpha=0.05)


def test_every_key(tmp_path: Path) -> None:
    found = written(
        tmp_path,
        """
        alpha: 0.1
        rules:
          - {metric: psnr, region: hole, slice: operation=swap, tolerance: 0.1, test: none}
          - {metric: "ssim[h*]", tolerance: 2.5%, alpha: 0.01}
          - {metric: "*", mean_rank: true, slice: all}
        acknowledged:
          - {metric: "psnr[hole]", slice: operation=swap, drop: 0.3, reason: smaller model, expires: 2026-12-31}
        """,
    )
    first, second, third = found.rules
    assert (first.metric, first.region, first.slice, first.absolute, first.relative, first.test, first.alpha) == (
        *("psnr", "hole", "operation=swap", 0.1, 0.0, "none"),
        0.1,
    )
    assert (second.metric, second.region, second.relative, second.test, second.alpha) == ("ssim", "h*", 0.025, "paired", 0.01)
    assert (third.mean_rank, third.slice, third.exact, first.exact) == (True, "", False, True)
    (known,) = found.acknowledged
    assert (known.metric, known.region, known.drop, known.expires) == ("psnr", "hole", 0.3, date(2026, 12, 31))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("rules: [", "is no YAML of rules", id="no YAML"),
        pytest.param("\0", "is no YAML of rules", id="binary"),
        pytest.param("[1]", "expected a mapping with the keys alpha, rules, acknowledged, found a list", id="a list"),
        pytest.param("", "rules is empty: name at least one", id="empty"),
        pytest.param("rules: []", "rules is empty", id="no rules"),
        pytest.param("rule: []", r"'rule' is unknown. Did you mean 'rules'\?", id="key"),
        pytest.param("rules: psnr", "rules: expected a list, found 'psnr'", id="no list"),
        pytest.param("rules: [psnr]", r"rules\[0\]: expected a mapping", id="no mapping"),
        pytest.param("rules: [{region: hole}]", r"rules\[0\].metric is required", id="no metric"),
        pytest.param("rules: [{metric: 1}]", r"rules\[0\].metric=1: expected text", id="metric a number"),
        pytest.param("rules: [{metric: a, tolerence: 1}]", r"rules\[0\].tolerence: .* Did you mean 'tolerance'\?", id="key of a rule"),
        pytest.param("rules: [{metric: 'a[b]', region: c}]", "names a region already", id="two regions"),
        pytest.param("rules: [{metric: a, mean_rank: 1}]", "mean_rank=1: expected true or false", id="mean_rank"),
        pytest.param("rules: [{metric: a, test: t}]", "test: 't' is unknown.* Valid: none, paired", id="test"),
        *(
            pytest.param(
                f"rules: [{{metric: a, tolerance: {value}}}]", r"tolerance=.*: expected a number of at least 0", id=f"tolerance {value}"
            )
            for value in ("-1", ".nan", ".inf", "true", "x", "1%%", "-1%", "null")
        ),
        *(
            pytest.param(f"alpha: {value}\nrules: [{{metric: a}}]", "alpha=.*: expected a level above 0", id=f"alpha {value}")
            for value in ("0", "0.6", ".nan", "'5%'", "true")
        ),
        pytest.param("rules: [{metric: a, alpha: 5}]", r"rules\[0\].alpha=5", id="alpha of a rule"),
        *(
            pytest.param(f"rules: [{{metric: a}}]\nacknowledged: [{{{leaf}}}]", message, id=f"acknowledged {leaf}")
            for leaf, message in {
                "metric: a, drop: 1, reason: r": r"acknowledged\[0\].expires is required",
                "metric: a, drop: 1, expires: 2026-01-01": r"acknowledged\[0\].reason is required",
                "metric: a, drop: 1, expires: 2026-01-01, reason: ''": r"acknowledged\[0\].reason is required",
                "metric: a, reason: r, expires: 2026-01-01": r"acknowledged\[0\].drop is required",
                "metric: a, drop: -1, reason: r, expires: 2026-01-01": "drop=-1: expected a number of at least 0",
                "metric: a, drop: 1, reason: r, expires: soon": "expires='soon': expected a date such as 2026-12-31",
                "metric: a, drop: 1, reason: r, until: 2026-01-01": "acknowledged.0..until: 'until' is unknown",
            }.items()
        ),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        written(tmp_path, text)
    assert "rules.yaml" in str(error.value)


def test_an_unknown_name_lists_those_that_ship() -> None:
    with pytest.raises(ConfigError, match=r"'defualt' is unknown. Did you mean 'default'\? Valid: default, strict, tolerance"):
        load_rules("defualt")


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere/rules.yaml: cannot be read \(No such file"):
        load_rules("nowhere/rules.yaml")
