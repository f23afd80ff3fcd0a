"""What a load test may be pointed at. The oracle is the registries' own lists (RFC 1918, 3927, 4193, 6598, 6890)."""

from __future__ import annotations

import ipaddress
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.safety.targets import Permission, allowed_hosts, check_end, check_target, check_url, reach_of
from tests.harness.builders import LAW

NOTHING = Permission()


@pytest.mark.parametrize(
    ("address", "reach"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("::1", "loopback"),
        ("0.0.0.0", "loopback"),
        ("::", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("10.0.0.1", "private"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.168.1.1", "private"),
        ("169.254.1.1", "private"),
        ("100.64.0.1", "private"),
        ("fe80::1", "private"),
        ("fe80::1%eth0", "private"),
        ("fd12:3456::1", "private"),
        ("::ffff:10.0.0.1", "private"),
        ("64:ff9b::10.0.0.1", "private"),
        ("172.15.255.255", "public"),
        ("172.32.0.0", "public"),
        ("192.167.255.255", "public"),
        ("11.0.0.0", "public"),
        ("100.63.255.255", "public"),
        ("100.128.0.0", "public"),
        ("8.8.8.8", "public"),
        ("2606:4700::1111", "public"),
        ("::ffff:8.8.8.8", "public"),
        ("64:ff9b::8.8.8.8", "public"),
        ("2002:808:808::1", "public"),
        ("169.254.169.254", "forbidden"),
        ("::ffff:169.254.169.254", "forbidden"),
        ("64:ff9b::a9fe:a9fe", "forbidden"),
        ("fd00:ec2::254", "forbidden"),
        ("100.100.100.200", "forbidden"),
        ("168.63.129.16", "forbidden"),
        ("224.0.0.1", "forbidden"),
        ("ff02::1", "forbidden"),
        ("255.255.255.255", "forbidden"),
    ],
)
def test_how_far_an_address_reaches(address: str, reach: str) -> None:
    assert reach_of(address) == reach


@LAW
@given(st.ip_addresses())
def test_nothing_that_the_registries_call_global_passes_without_a_name(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if address.is_global:
        assert reach_of(str(address)) in ("public", "forbidden") or reach_of(str(address)) == _embedded(address)


def _embedded(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str | None:
    """Python calls 6to4 and NAT64 addresses global; where they lead is another question."""
    if isinstance(address, ipaddress.IPv6Address) and (
        address.sixtofour or address in ipaddress.ip_network("64:ff9b::/96")
    ):
        return reach_of(str(address.sixtofour or ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)))
    return None


def test_this_machine_needs_no_word() -> None:
    assert check_target("http://localhost:8000", ["127.0.0.1", "::1"], NOTHING, has_key=True) is None


def test_a_private_network_is_noted() -> None:
    note = check_target("http://mock:8000", ["172.18.0.2"], NOTHING, has_key=False)
    assert note == "mock is on a private network, at 172.18.0.2"


def test_a_public_host_must_be_named() -> None:
    url, addresses = "https://api.example.com/v1", ["93.184.216.34"]
    with pytest.raises(UsageError, match=r"public internet.*--allow-host api\.example\.com"):
        check_target(url, addresses, NOTHING, has_key=False)
    named = Permission(allowed_hosts(["API.example.com."], None))
    assert check_target(url, addresses, named, has_key=True) == (
        "api.example.com is on the public internet, at 93.184.216.34"
    )
    with pytest.raises(UsageError, match="public internet"):
        check_target("https://www.example.com", addresses, named, has_key=False)


def test_one_public_address_among_private_ones_is_enough_to_refuse() -> None:
    with pytest.raises(UsageError, match=r"8\.8\.8\.8"):
        check_target("http://inside", ["10.0.0.1", "8.8.8.8"], NOTHING, has_key=False)


def test_the_metadata_service_is_refused_whatever_was_allowed() -> None:
    everything = Permission(frozenset({"metadata.google.internal", "169.254.169.254"}), plain_http=True)
    for host in ("metadata.google.internal", "169.254.169.254"):
        with pytest.raises(UsageError, match="metadata service"):
            check_target(f"http://{host}", ["169.254.169.254"], everything, has_key=False)


def test_a_key_does_not_cross_a_network_in_the_clear() -> None:
    with pytest.raises(UsageError, match=r"unencrypted.*https://.*--allow-plain-http"):
        check_target("http://gpu-1:8000", ["10.0.0.1"], NOTHING, has_key=True)
    assert check_target("http://gpu-1:8000", ["10.0.0.1"], NOTHING, has_key=False)
    assert check_target("https://gpu-1:8000", ["10.0.0.1"], NOTHING, has_key=True)
    assert check_target("http://gpu-1:8000", ["10.0.0.1"], Permission(plain_http=True), has_key=True)


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hunter2@127.0.0.1:8000",
        "http://hunter2@127.0.0.1",
        "http://127.0.0.1/?api_key=hunter2",
        "http://127.0.0.1/#hunter2",
    ],
)
def test_a_url_with_a_secret_is_refused_without_saying_it(url: str) -> None:
    with pytest.raises(UsageError) as refused:
        check_url(url)
    assert "hunter2" not in str(refused.value)
    assert "HARNESS_API_KEY" in str(refused.value)


def test_allowed_hosts_come_from_options_and_environment() -> None:
    assert allowed_hosts(["a.example", "B.example."], " c.example, ,[2606:4700::1111]") == {
        "a.example",
        "b.example",
        "c.example",
        "2606:4700::1111",
    }


@pytest.mark.parametrize("host", ["https://a.example", "*.example", "me@a.example", "a.example/v1"])
def test_what_is_no_host_cannot_be_allowed(host: str) -> None:
    with pytest.raises(UsageError, match="name one host"):
        allowed_hosts([host], None)


def test_a_peer_is_judged_by_its_address_when_the_name_leads_elsewhere() -> None:
    """DNS rebinding: the name was private when it was checked, and is not any more."""
    assert NOTHING.admits("inside", "10.0.0.1")
    assert not NOTHING.admits("inside", "93.184.216.34")
    assert not Permission(frozenset({"inside"})).admits("inside", "169.254.169.254")
    assert Permission(frozenset({"api.example.com"})).admits("API.example.com", "93.184.216.34")


@pytest.mark.parametrize(("duration_s", "drain_s"), [(inf, 60.0), (nan, 60.0), (0.0, 60.0), (60.0, inf)])
def test_a_run_without_an_end_is_refused(duration_s: float, drain_s: float) -> None:
    with pytest.raises(UsageError, match="no end"):
        check_end(duration_s, drain_s)


def test_a_run_with_an_end_is_not() -> None:
    check_end(3600.0, 60.0)
