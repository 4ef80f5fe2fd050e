"""A network of its own, with nothing but loopback: what a peer sends elsewhere arrives nowhere."""

import fcntl
import os
import socket
import struct
import subprocess
import sys

SIOCSIFFLAGS = 0x8914
IFF_UP_RUNNING = 0x41
INSIDE = "PEERS_NETWORK"


def is_outside():
    return INSIDE not in os.environ


def leave(arguments):
    """Starts the program again in a new network, unless it is in one or none can be made."""
    if not is_outside():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP_RUNNING))
        return
    as_user = [] if os.geteuid() == 0 else ["--user", "--map-current-user", "--keep-caps"]
    unshare = ["unshare", *as_user, "--net"]
    try:
        subprocess.run([*unshare, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return print("=== no network of their own: this system does not permit `unshare --net` ===", file=sys.stderr)
    os.environ[INSIDE] = "1"
    os.execvp(unshare[0], [*unshare, sys.executable, *arguments])
