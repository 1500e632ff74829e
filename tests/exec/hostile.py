"""Tricks of a command that wants out, one function each: `hostile.py TRICK ARGUMENT...`.

Each prints a line for what it tried and what came of it: `done`, or the name of the error. What should have
come of it is for the tests to say.
"""

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import platform
import pty
import select
import signal
import socket
import stat
import struct
import sys
import time

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long

# Numbers of system calls: x86_64, then what newer architectures share (asm-generic/unistd.h).
CALLS = {
    "socket": (41, 198), "socketpair": (53, 199), "ioctl": (16, 29), "clone": (56, 220), "clone3": (435, 435),
    "unshare": (272, 97), "setns": (308, 268), "ptrace": (101, 117), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51), "move_mount": (429, 429), "open_tree": (428, 428),
    "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "open_tree_attr": (467, 467), "bpf": (321, 280), "perf_event_open": (298, 241),
    "open_by_handle_at": (304, 265), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89), "vhangup": (153, 58),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219), "userfaultfd": (323, 282),
    "sethostname": (170, 161), "settimeofday": (164, 170), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "kcmp": (312, 272),
}  # fmt: skip

NAMESPACES = {
    "user": 0x10000000, "net": 0x40000000, "mount": 0x20000, "pid": 0x20000000, "ipc": 0x8000000, "uts": 0x4000000,
    "cgroup": 0x2000000,
}  # fmt: skip


def call(name, *arguments):
    """Makes a system call by its number, past what the C library makes of it."""
    number = CALLS[name][0 if platform.machine() == "x86_64" else 1]
    return by_number(number, *arguments)


def by_number(number, *arguments):
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    answer = LIBC.syscall(ctypes.c_long(number), *words)
    if answer == -1:
        raise OSError(ctypes.get_errno(), "")
    return answer


def told(what, action, *arguments):
    """Tries something and says what came of it."""
    try:
        answer = action(*arguments)
    except OSError as error:
        answer = None
        outcome = errno.errorcode.get(error.errno, repr(error))
    else:
        outcome = "done"
    print(what, outcome, flush=True)
    return answer


# Sockets of the host.


def unix_sockets(*paths):
    for path in paths:
        told(path, speak_to, path)


def speak_to(path):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        with socket.socket(socket.AF_UNIX, kind) as peer:
            try:
                peer.connect(path)
            except OSError as error:
                if error.errno == errno.EPROTOTYPE:
                    continue
                raise
            # Whoever took the connection may be gone again.
            with contextlib.suppress(OSError):
                peer.send(b"let me out")
            return


def unix_socket_when_told(flag, path):
    """Waits for a file, which says that the socket has been made, and speaks to the socket."""
    while not os.path.exists(flag):
        time.sleep(0.02)
    told("late", speak_to, path)


def abstract_socket(name):
    told("abstract", speak_to, "\0" + name)


def shared_memory(key, path):
    told("segment", lambda: check(LIBC.shmget(int(key), 1, 0)))
    told("file", os.stat, path)


def check(answer):
    if answer == -1:
        raise OSError(ctypes.get_errno(), "")
    return answer


# Sockets that know no network namespace, or go past the rules of this one.


def families():
    for name, family, kind in [
        ("vsock", 40, socket.SOCK_STREAM),
        ("packet", 17, socket.SOCK_RAW),
        ("packet-datagram", 17, socket.SOCK_DGRAM),
        ("xdp", 44, socket.SOCK_RAW),
        ("bluetooth", 31, socket.SOCK_RAW),
        ("crypto", 38, socket.SOCK_SEQPACKET),
        ("tipc", 30, socket.SOCK_STREAM),
        ("rds", 21, socket.SOCK_SEQPACKET),
        ("smc", 43, socket.SOCK_STREAM),
        ("key", 15, socket.SOCK_RAW),
        ("can", 29, socket.SOCK_RAW),
        ("qipcrtr", 42, socket.SOCK_DGRAM),
    ]:
        told(name, call, "socket", family, kind, 0)
    told("pair", call, "socketpair", 40, socket.SOCK_STREAM, 0, (ctypes.c_int * 2)())
    # The kernel reads 32 bits of what a filter sees 64 of.
    told("wide", call, "socket", 40 | 1 << 32, socket.SOCK_STREAM, 0)


def raw_sockets():
    told("raw", socket.socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    told("icmp", socket.socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    told("icmpv6", socket.socket, socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    # What ping(8) uses where it has no rights.
    told("echo", socket.socket, socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
    told("echo6", socket.socket, socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6)


def socket_options():
    four = socket.socket()
    six = socket.socket(socket.AF_INET6)
    told("mark", four.setsockopt, socket.SOL_SOCKET, 36, 1)
    told("force", four.setsockopt, socket.SOL_SOCKET, 33, 1 << 30)
    told("transparent", four.setsockopt, socket.IPPROTO_IP, 19, 1)
    told("transparent6", six.setsockopt, socket.IPPROTO_IPV6, 75, 1)


def netlink():
    for protocol in range(1, 23):
        told(str(protocol), call, "socket", 16, socket.SOCK_RAW, protocol)
    told("wide", call, "socket", 16, socket.SOCK_RAW, 12 | 1 << 32)
    told("route", call, "socket", 16, socket.SOCK_RAW, 0)


def other_protocols(address):
    """What is neither TCP nor a question to port 53."""
    for name, kind, protocol in [("udplite", socket.SOCK_DGRAM, 136), ("sctp", socket.SOCK_STREAM, 132)]:
        try:
            peer = socket.socket(socket.AF_INET, kind, protocol)
        except OSError:
            print(name, "not here")
            continue
        peer.settimeout(3)
        told(name, lambda: (peer.connect((address, 443)), peer.send(b"x")))


def datagrams(*addresses):
    """Sends to each address and port, and says how long it took to hear no."""
    for place in addresses:
        address, port = place.rsplit(":", 1)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        peer = socket.socket(family, socket.SOCK_DGRAM)
        peer.settimeout(3)
        start = time.monotonic()
        told(place, lambda: (peer.connect((address, int(port))), peer.send(b"\xc0\0\0\0\1"), peer.recv(9)))
        print("in time" if time.monotonic() - start < 1 else "too late")


def from_port_53(address, port):
    """Packets of a socket on port 53 look like answers."""
    peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peer.settimeout(1)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    told("bind", peer.bind, ("127.0.0.2", 53))
    told("send", lambda: (peer.sendto(b"x", (address, int(port))), peer.recv(9)))


def fast_open(address, port, text):
    """Data in the first packet of a connection."""
    peer = socket.socket()
    peer.settimeout(5)
    told("send", peer.sendto, text.encode(), 0x20000000, (address, int(port)))
    told("receive", lambda: print(peer.recv(999).decode(errors="replace").split("\r\n")[0]))


def connections(*places):
    """Connects to each address and port, and says what the other side answers to a request without a name."""
    for place in places:
        address, port = place.rsplit(":", 1)
        start = time.monotonic()
        told(place, lambda: ask(address, int(port)))
        if time.monotonic() - start > 5:
            print("too late")


def ask(address, port):
    with socket.create_connection((address, port), 8) as peer:
        peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
        answer = peer.recv(4096)
        if not answer:
            raise OSError(errno.EPIPE, "")
        # A refusal is an answer of the gate's own.
        if b" 403 " in answer:
            raise OSError(errno.EACCES, "")


# Ways around the listeners.


def own_listeners():
    """The ports that the gate listens on in here, as the kernel tells everybody."""
    ports = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(table) as lines:
            for line in list(lines)[1:]:
                fields = line.split()
                if fields[3] == "0A":
                    ports.add(int(fields[1].rsplit(":", 1)[1], 16))
    return sorted(ports)


def proxy_port(foreign):
    ports = [port for port in own_listeners() if port != 53]
    print("listeners", len(ports))
    for port in ports:
        for address in ("127.0.0.1", "127.9.9.9", "198.18.0.1", "::1", "::ffff:127.0.0.1", "2001:db8:6e67::1", foreign):
            told(address, ask, address, port)


def take_ports():
    """Listens where the gate does, and where connections to others go."""
    for address, port in [("0.0.0.0", 53), ("127.0.0.1", 53), ("203.0.113.10", 80), ("0.0.0.0", 443)]:
        family = socket.AF_INET
        peer = socket.socket(family)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        told(f"{address}:{port}", lambda: (peer.bind((address, port)), peer.listen()))
        peer.setblocking(False)
        globals().setdefault("KEPT", []).append(peer)
    told("ask", ask, "203.0.113.10", 80)
    taken = sum(accepts(peer) for peer in globals()["KEPT"])
    print("taken", taken)


def accepts(peer):
    try:
        peer.accept()
    except OSError:
        return False
    return True


# Descriptors that were open before.


def descriptors():
    for number in range(3, 64):
        try:
            mode = os.fstat(number).st_mode
        except OSError:
            continue
        names = {stat.S_IFSOCK: "socket", stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFREG: "file"}
        print(number, names.get(stat.S_IFMT(mode), "other"))
        if stat.S_ISFIFO(mode):
            os.write(number, b"through the pipe")


def hand_down(*words):
    """Outside: opens what a careless parent leaves open, and becomes the rest of the command line."""
    listener = socket.create_server(("203.0.113.10", 9999))
    peer = socket.create_connection(("203.0.113.10", 9999))
    reader, writer = os.pipe()
    epoll = select.epoll()
    for number, source in enumerate(
        [
            listener.fileno(),
            peer.fileno(),
            os.open("/", os.O_RDONLY | os.O_DIRECTORY),
            os.open("/run", os.O_PATH),
            writer,
            os.open("/etc/hostname", os.O_RDONLY),
            socket.socketpair()[0].fileno(),
            epoll.fileno(),
            os.open("/dev/null", os.O_RDWR),
            os.pidfd_open(os.getpid()),
        ],
        40,
    ):
        os.dup2(source, number, inheritable=True)
    child = os.fork()
    if child == 0:
        os.execvp(words[0], words)
    os.close(writer)
    os.close(44)
    os.waitpid(child, 0)
    print("read", os.read(reader, 99).decode())


def streams():
    """Turns a stream that is a socket to somebody else, then passes on what comes in."""
    for number in range(3):
        mode = os.fstat(number).st_mode
        unspecified = struct.pack("H14x", 0)
        outcome = check_errno(LIBC.connect(number, unspecified, len(unspecified)))
        print(number, "pipe" if stat.S_ISFIFO(mode) else "other", outcome, flush=True)
    print("heard", sys.stdin.readline().strip(), flush=True)
    print("aside", file=sys.stderr, flush=True)


def check_errno(answer):
    return "done" if answer == 0 else errno.errorcode[ctypes.get_errno()]


# Other processes.


def signals(*victims):
    for number in ("SIGKILL", "SIGSTOP", "SIGTERM"):
        told(f"keeper {number}", os.kill, 1, getattr(signal, number))
        for victim in victims:
            told(f"victim {number}", os.kill, int(victim), getattr(signal, number))
            told(f"group {number}", os.killpg, int(victim), getattr(signal, number))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGCONT, signal.SIG_IGN)
    told("own group", os.kill, 0, signal.SIGTERM)
    # Nobody but the keeper and this process is there, and both are spared.
    told("everybody", os.kill, -1, signal.SIGKILL)
    told("owner", fcntl.fcntl, 0, fcntl.F_SETOWN, int(victims[0]))
    # The gate lives: it resolves, and connects.
    with socket.create_connection(("good.example.com", 80), 8) as peer:
        peer.sendall(b"GET / HTTP/1.1\r\nHost: good.example.com\r\n\r\n")
        print("answer", peer.recv(4096).decode().split(" ")[1])


def keeper():
    for name in ("mem", "environ", "maps", "auxv", "io", "stack"):
        told(name, lambda: open(f"/proc/1/{name}", "rb").read(1))
    told("map_files", os.listdir, "/proc/1/map_files")
    # Root may see the numbers, and no more.
    for number in range(32):
        try:
            os.close(os.open(f"/proc/1/fd/{number}", os.O_RDONLY))
            print("opened", number)
        except OSError:
            pass
    for name in ("root", "cwd", "exe", "ns/net", "ns/user"):
        told(name, os.readlink, f"/proc/1/{name}")
    told("attach", call, "ptrace", 16, 1, 0, 0)
    told("seize", call, "ptrace", 0x4206, 1, 0, 0)
    buffer = ctypes.create_string_buffer(8)
    vector = struct.pack("PN", ctypes.addressof(buffer), 8)
    told("read", call, "process_vm_readv", 1, vector, 1, vector, 1, 0)
    told("write", call, "process_vm_writev", 1, vector, 1, vector, 1, 0)
    told("compare", call, "kcmp", 1, os.getpid(), 0, 0, 0)
    keeper = told("open", call, "pidfd_open", 1, 0)
    for number in range(3, 12):
        told("take", call, "pidfd_getfd", keeper, number, 0)
    told("enter", call, "setns", keeper, NAMESPACES["net"])


def processes(victim):
    """Those that can be seen, by their names, and one outside."""
    names = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with open(f"/proc/{entry}/comm") as comm:
                names.add(comm.read().strip())
    print(*sorted(names))
    told("attach", call, "ptrace", 16, int(victim), 0, 0)
    told("memory", os.open, f"/proc/{victim}/mem", os.O_RDONLY)
    told("open", call, "pidfd_open", int(victim), 0)


def side_doors(victim):
    """What /proc has of a process outside, where it can be seen."""
    for name in ("root", "cwd", "exe", "ns/net", "fd/0"):
        told(name, os.readlink, f"/proc/{victim}/{name}")
    told("folder", os.listdir, f"/proc/{victim}/root/run")
    told("socket", speak_to, f"/proc/{victim}/root/run/docker.sock")
    told("memory", lambda: open(f"/proc/{victim}/mem", "rb").read(1))


# New namespaces, mounts, and other parts of the kernel.


def namespaces():
    for name, flag in NAMESPACES.items():
        told(f"unshare {name}", call, "unshare", flag)
        told(f"clone {name}", birth, flag)
        told(f"wide {name}", birth, flag | 1 << 40)
    told("unshare time", call, "unshare", 0x80)
    told("clone3", call, "clone3", struct.pack("8Q", NAMESPACES["user"], 0, 0, 0, 17, 0, 0, 0), 64)
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    told("setns", call, "setns", own, 0)


def birth(flags):
    child = call("clone", flags | signal.SIGCHLD, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def text(word):
    return ctypes.c_char_p(word.encode())


def mounts(mask):
    """Builds a view of its own, and takes away what covers a socket."""
    told("umount", call, "umount2", text(mask), 2)
    told("umount run", call, "umount2", text("/run"), 2)
    told("umount dev", call, "umount2", text("/dev"), 2)
    told("mount", call, "mount", text("none"), text("/tmp"), text("tmpfs"), 0, None)
    told("bind", call, "mount", text("/"), text("/tmp"), None, 4096, None)
    told("remount", call, "mount", None, text("/proc/sys"), None, 32 | 4096, None)
    told("pivot_root", call, "pivot_root", text("/tmp"), text("/tmp"))
    told("chroot", call, "chroot", text("/tmp"))
    told("open_tree", call, "open_tree", -100, text("/"), 1)
    told("move_mount", call, "move_mount", -100, text("/tmp"), -100, text("/"), 0)
    told("fsopen", call, "fsopen", text("tmpfs"), 0)
    told("fspick", call, "fspick", -100, text("/"), 0)
    told("fsmount", call, "fsmount", 0, 0, 0)
    told("fsconfig", call, "fsconfig", 0, 6, None, None, 0)
    told("mount_setattr", call, "mount_setattr", -100, text("/"), 0, bytes(32), 32)
    told("unlink", os.unlink, mask)
    told("rename", os.rename, mask, mask + ".away")
    told("link", os.link, mask, mask + ".again")


def newer_mounts():
    """A call that is younger than most lists of calls."""
    told("open_tree_attr", call, "open_tree_attr", -100, text("/"), 1, bytes(32), 32)


def forbidden():
    told("bpf", call, "bpf", 5, bytes(128), 128)
    told("perf_event_open", call, "perf_event_open", bytes(128), 0, -1, -1, 0)
    told("open_by_handle_at", call, "open_by_handle_at", -100, bytes(64), 0)
    told("init_module", call, "init_module", None, 0, text(""))
    told("finit_module", call, "finit_module", 0, text(""), 0)
    told("delete_module", call, "delete_module", text("none"), 0)
    told("kexec_load", call, "kexec_load", 0, 0, None, 0)
    told("kexec_file_load", call, "kexec_file_load", -1, -1, 0, None, 0)
    # With wrong magic numbers even those who may reboot hear EINVAL.
    told("reboot", call, "reboot", 0, 0, 0, 0)
    told("swapon", call, "swapon", text("/nowhere"), 0)
    told("swapoff", call, "swapoff", text("/nowhere"))
    told("acct", call, "acct", text("/nowhere"))
    told("sethostname", call, "sethostname", text("x"), 1)
    told("settimeofday", call, "settimeofday", struct.pack("qq", -1, 0), None)
    told("mknod", os.mknod, "node", stat.S_IFBLK | 0o600, os.makedev(7, 0))


def missing():
    told("io_uring_setup", call, "io_uring_setup", 1, bytes(120))
    told("io_uring_enter", call, "io_uring_enter", -1, 0, 0, 0, None, 0)
    told("io_uring_register", call, "io_uring_register", -1, 0, None, 0)
    told("add_key", call, "add_key", text("user"), text("x"), text("y"), 1, -1)
    told("request_key", call, "request_key", text("user"), text("x"), None, 0)
    told("keyctl", call, "keyctl", 0, -3, 0)
    told("userfaultfd", call, "userfaultfd", 1)


def other_numbers():
    """The same calls under the numbers of x32."""
    told("getpid", by_number, 0x40000000 | 39)
    told("socket", by_number, 0x40000000 | 41, 40, 1, 0)


def other_architecture():
    """Calls of i386: a socket by its number there."""
    code = b"\xb8\x67\x01\x00\x00" + b"\xbb\x28\x00\x00\x00" + b"\xcd\x80" + b"\xc3"
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(b"\x53" + code[:-1] + b"\x5b\xc3")
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    answer = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
    print("socket", "done" if answer >= 0 else errno.errorcode[-answer])


# Rights.


def status():
    with open("/proc/self/status") as lines:
        for line in lines:
            if line.startswith(("Cap", "NoNewPrivs", "Seccomp:")):
                print(line.strip())


def regain(program):
    """Starts a set-user-id program, and says whose process it became."""
    told("run", os.execv, program, [program, "-n", "/proc/self/status"])


def typing():
    """Types on behalf of the user."""
    _, slave = pty.openpty()
    letter = ctypes.create_string_buffer(b"x")
    told("type", call, "ioctl", slave, 0x5412, letter)
    told("wide", call, "ioctl", slave, 0x5412 | 1 << 32, letter)
    told("paste", call, "ioctl", slave, 0x541C, letter)


def devices(*nodes):
    print(*sorted(os.listdir("/dev")))
    for node in nodes:
        told(node, os.open, node, os.O_RDONLY)


def switches():
    """Whatever of the machine's settings could be changed. Only asked for, never opened."""
    open_ones = []
    for top in ("/proc", "/sys"):
        for folder, folders, files in os.walk(top):
            if folder == "/proc":
                folders[:] = [name for name in folders if not name.isdigit() and name not in ("self", "thread-self")]
            for name in files:
                path = os.path.join(folder, name)
                if os.access(path, os.W_OK):
                    open_ones.append(path)
    print("open", *open_ones)
    sysrq = os.stat("/proc/sysrq-trigger") if os.path.exists("/proc/sysrq-trigger") else None
    print("sysrq", "covered" if sysrq is None or sysrq.st_rdev == os.makedev(1, 3) else "open")
    told("pattern", os.open, "/proc/sys/kernel/core_pattern", os.O_WRONLY)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
