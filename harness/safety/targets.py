"""What a load test may be pointed at. Pure: names are resolved elsewhere, and the addresses are told.

A load generator is a weapon when its aim is wrong. So: this machine always; a private network, with a word about it; a host
on the public internet only when it was named; a cloud's metadata service never. A key does not leave the machine in the clear.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from math import isfinite
from typing import Literal
from urllib.parse import urlsplit

from harness.errors import UsageError

__all__ = ["Permission", "Reach", "allowed_hosts", "check_end", "check_target", "check_url", "reach_of"]

Reach = Literal["loopback", "private", "public", "forbidden"]

# Where clouds hand out the credentials of the machine: AWS, Azure, Google, Oracle, DigitalOcean (169.254.169.254), AWS by
# IPv6 and in its containers, Azure's host agent, Alibaba. Link-local, or in ranges that would pass as private.
_METADATA = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "168.63.129.16",
        "100.100.100.200",
    )
)
_PRIVATE = tuple(
    ip_network(text)
    for text in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),  # RFC 1918
        *("169.254.0.0/16", "fe80::/10"),  # link-local: RFC 3927, RFC 4291
        "fc00::/7",  # unique local: RFC 4193
        "100.64.0.0/10",  # shared by a provider's customers, and overlay networks: RFC 6598
    )
)
_NAT64 = ip_network("64:ff9b::/96")  # RFC 6052: the last four bytes are an IPv4 address


def reach_of(address: str) -> Reach:
    """How far a packet to this address goes. Raises ValueError for what is no IP address."""
    ip = _inner(ip_address(address.partition("%")[0]))
    if ip in _METADATA or ip.is_multicast or ip == IPv4Address("255.255.255.255"):
        return "forbidden"
    if ip.is_loopback or ip.is_unspecified:  # connecting to 0.0.0.0 or :: is connecting to this machine
        return "loopback"
    return "private" if any(ip in network for network in _PRIVATE) else "public"


def _inner(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 address stands for: ::ffff:10.0.0.1 is 10.0.0.1."""
    if isinstance(ip, IPv4Address):
        return ip
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip


def allowed_hosts(named: Sequence[str], environment: str | None) -> frozenset[str]:
    """The hosts of `--allow-host` and of HARNESS_ALLOW_HOSTS (comma-separated). Raises UsageError for what is no host name."""
    texts = [*named, *(environment or "").split(",")]
    hosts = {_plain(text) for text in texts if text.strip()}
    for host in hosts:
        if "/" in host or "@" in host or "*" in host:
            raise UsageError(
                f"--allow-host {host}: name one host, like api.example.com, without scheme, path or wildcard"
            )
    return frozenset(hosts)


def _plain(host: str) -> str:
    return host.strip().lower().strip("[]").rstrip(".")


def check_url(url: str) -> None:
    """Refuse a URL with secrets in it, before it stands on a command line. Raises UsageError, without the secret."""
    try:
        parts = urlsplit(url.strip())
    except ValueError as error:
        raise UsageError(f"the target is not a URL: {error}") from None
    if "@" in parts.netloc:
        raise UsageError("a URL with credentials would stand in every output; put the key into HARNESS_API_KEY")
    if parts.query or parts.fragment:
        raise UsageError(
            "the target is the root of a server, without ?query or #fragment; put a key into HARNESS_API_KEY"
        )


@dataclass(frozen=True, slots=True)
class Permission:
    """What was asked for beyond the safe defaults."""

    hosts: Collection[str] = frozenset()
    plain_http: bool = False

    def admits(self, host: str, address: str, *, bare_key: bool = False) -> bool:
        """Whether a connection to `host` may end at this address. Asked of the peer of every new connection: a name that
        resolves to another address than when it was checked (DNS rebinding) gets no byte. `bare_key`: a key would travel
        over it unencrypted."""
        reach = reach_of(address)
        if bare_key and reach != "loopback" and not self.plain_http:
            return False
        return reach in ("loopback", "private") or (reach == "public" and _plain(host) in self.hosts)


def check_target(url: str, addresses: Sequence[str], permission: Permission, *, has_key: bool) -> str | None:
    """Refuse a target that nobody meant. `addresses` are those that its host resolves to; all of them must be fit.

    Returns a note about a target beyond this machine, None for this machine. Raises UsageError.
    """
    check_url(url)
    parts = urlsplit(url.strip())
    host = parts.hostname or ""
    reaches = {reach_of(address): address for address in addresses}
    if "forbidden" in reaches:
        raise UsageError(
            f"{host} is {reaches['forbidden']}: the address of a cloud's metadata service, or of many machines at once; "
            "no load test goes there"
        )
    if "public" in reaches and _plain(host) not in permission.hosts:
        raise UsageError(
            f"{host} ({reaches['public']}) is on the public internet: load it only if it is yours or its owner agreed, and "
            f"say so with --allow-host {host} or HARNESS_ALLOW_HOSTS={host}"
        )
    beyond = {"public", "private"} & reaches.keys()
    if beyond and has_key and parts.scheme == "http" and not permission.plain_http:
        raise UsageError(
            f"HARNESS_API_KEY would cross the network to {host} unencrypted: use https://, or say --allow-plain-http"
        )
    if not beyond:
        return None
    where = "the public internet" if "public" in reaches else "a private network"
    return f"{host} is on {where}, at {', '.join(sorted(addresses))}"


def check_end(duration_s: float, drain_s: float) -> None:
    """Refuse a run without an end. Raises UsageError."""
    if not (isfinite(duration_s) and duration_s > 0):
        raise UsageError("the plan has no end: give it one with -t, like -t 60s")
    if not isfinite(drain_s):
        raise UsageError("--drain has no end: write a duration, like --drain 60s")
