"""Where results go: to AWS, or to a sandbox on this machine."""

import ipaddress
import os
import re
import socket
from contextlib import suppress
from urllib.parse import urlsplit


def is_configured() -> bool:
    """Whether the AWS configuration files may have a say in which endpoint is used.

    https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
    """
    if "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS" in os.environ:
        return True
    for variable, name in (
        ("AWS_CONFIG_FILE", "~/.aws/config"),
        ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
    ):
        path = os.path.expanduser(os.path.expandvars(os.environ.get(variable, name)))
        with suppress(OSError), open(path, "rb") as file:
            if b"endpoint_url" in file.read():
                return True
    return False


def is_on_this_machine(url: str) -> bool:
    """Whether `url`, or what is meant by it, leads to a loopback address."""
    try:
        # What lacks a part of its scheme is meant for the same place, though nobody can send there.
        host = (urlsplit(re.sub(r"^(https?:)?/*", "//", url)).hostname or "").rstrip(".")
        if host == "localhost" or host.endswith(".localhost"):
            return True
        with suppress(OSError):
            host = socket.inet_ntoa(socket.inet_aton(host))  # 127.1 is an address, too
        address = ipaddress.ip_address(host)
    except ValueError:  # no address, or no URL; `send` says so
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified
