"""The table of asked against delivered: whether the load that was asked for is the load that was sent."""

from __future__ import annotations

from harness.delivery import Delivery, GapTest
from harness.text import milliseconds
from reports.numbers import MISSING, count, per_second
from reports.tables import TextTable

__all__ = ["delivery_rows"]


def delivery_rows(delivery: Delivery) -> list[TextTable]:
    """Rate, spread and law of the sends beside those that were asked for."""
    asked, delivered = delivery.asked, delivery.delivered
    rows = [
        ["requests", count(asked.num), count(delivered.num)],
        ["rate, per second", per_second(asked.rate), per_second(delivered.rate)],
        ["CV of the gaps", _number(asked.gap_cv), _number(delivered.gap_cv)],
    ]
    rows += [
        [f"index of dispersion, {window} s", _number(value), _number(delivered.dispersion[window])]
        for window, value in asked.dispersion.items()
    ]
    rows += [
        [name, cell(delivery.plan_test), cell(delivery.gap_test)]
        for name, cell in (
            ("gaps against", _against),
            ("Kolmogorov-Smirnov distance", lambda test: _distance(test and test.distance)),
            ("the same beyond 10 ms of lag", lambda test: _distance(test and test.distance_beyond_lag)),
            ("p-value of the latter", lambda test: _p_value(test and test.p_value)),
        )
    ]
    facts = [
        ["sent more than 10 ms late", count(delivery.num_late)],
        ["sent more than 50 ms off time", count(delivery.num_displaced)],
        ["latest send, ms", milliseconds(delivery.worst_lag_s)],
        ["held back by the harness", count(delivery.num_refused)],
        ["asked and not sent", count(delivery.num_not_sent)],
    ]
    return [
        TextTable("Asked against delivered", ["", "asked", "delivered"], rows),
        TextTable("Sends", ["", ""], facts),
    ]


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f}"


def _against(test: GapTest | None) -> str:
    return MISSING if test is None else test.against


def _distance(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}"


def _p_value(value: float | None) -> str:
    if value is None:
        return MISSING
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"
