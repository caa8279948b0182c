"""What the host and other sandboxes know. Paths that exist on the host are told in FACTS."""

import os

from probing import Absent, Refused, fact, leaked, many, probe

PLACES = {
    "shadow": "/etc/shadow",
    "gshadow": "/etc/gshadow",
    "sudoers": "/etc/sudoers",
    "ssh_host_key": "/etc/ssh/ssh_host_rsa_key",
    "subuid": "/etc/subuid",
    "ssl_private": "/etc/ssl/private",
    "kube": "/etc/kubernetes/admin.conf",
    "root_ssh": "/root/.ssh",
    "root_history": "/root/.bash_history",
    "root_aws": "/root/.aws/credentials",
    "root_netrc": "/root/.netrc",
    "root_cache": "/root/.cache",
    "docker_config": "/root/.docker/config.json",
    "gcloud": "/root/.config/gcloud",
    "service_token": "/var/run/secrets/kubernetes.io",
    "run_user": "/run/user",
    "systemd": "/run/systemd",
    "journal": "/var/log/journal",
    "syslog_file": "/var/log/syslog",
    "dpkg_log": "/var/log/dpkg.log",
    "spool": "/var/spool/cron",
    "boot": "/boot",
    "efi": "/sys/firmware",
    "dmi": "/sys/class/dmi",
    "crontab": "/etc/crontab",
    "debugfs": "/sys/kernel/debug",
    "lost_found": "/lost+found",
    "id_locks": "/run/cloche-ids.lock",
}


@many("host", PLACES)
def host(path):
    if os.path.isdir(path):
        return leaked(os.listdir(path), "entries")
    with open(path, "rb") as file:
        return leaked(file.read(64))


def _host_paths():
    return fact("paths")


@probe
def planted_files():
    """Files that the suite has put into the host's home, /tmp, /var/tmp, and the data directory."""
    return leaked([path for path in _host_paths() if os.path.lexists(path)], "planted file")


@many(
    "planted_by_way_of",
    {
        "proc_1": "/proc/1/root",
        "proc_self": "/proc/self/root",
        "cwd": "/proc/self/cwd/../../../..",
        "proc_1_cwd": "/proc/1/cwd/..",
        "dots": "/../../../..",
    },
)
def planted_by_way_of(top):
    return leaked([path for path in _host_paths() if os.path.lexists(top + path)], "planted file")


@probe
def planted_by_way_of_any_process():
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for way in ("root", "cwd"):
            found += [path for path in _host_paths() if os.path.lexists(f"/proc/{pid}/{way}{path}")]
    return leaked(found, "planted file")


@probe
def planted_by_name_anywhere():
    """A walk of everything but /proc and /usr."""
    mark, found = fact("mark"), []
    for base, directories, names in os.walk("/", followlinks=False):
        directories[:] = [name for name in directories if os.path.join(base, name) not in ("/proc", "/usr")]
        found += [os.path.join(base, name) for name in [*names, *directories] if mark in name]
    return leaked(found, "planted file")


@probe
def other_homes():
    return leaked([name for name in os.listdir("/home") if name != "user"], "home")


@probe
def root_home():
    """It may hold the way to the running interpreter and nothing beside it."""
    shown, found = fact("prefix"), []
    for name in os.listdir("/root"):
        path = f"/root/{name}"
        if not shown.startswith(path):
            found.append(path)
    return leaked(found, "entry")


@probe
def inherited_descriptors():
    """0, 1 and 2 are pipes or /dev/null; whatever else is open was left open by mistake."""
    listing = os.open("/proc/self/fd", os.O_RDONLY)
    bad = []
    for name in os.listdir(listing):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if int(name) > 2 and not target.endswith("/fd") and int(name) not in fact("own_descriptors"):
            bad.append((name, target))
        if int(name) <= 2 and not target.startswith(("pipe:", "socket:", "/dev/null", "/dev/pts")):
            bad.append((name, target))
    return leaked(bad, "descriptor")


@probe
def directories_behind_descriptors():
    found = []
    for number in range(3):
        try:
            found += os.listdir(f"/proc/self/fd/{number}")
        except OSError:
            continue
    return leaked(found, "entry")


@probe
def other_sandbox_files():
    return leaked([path for path in fact("other_paths") if os.path.lexists(path)], "file")


@probe
def host_environment():
    mark = fact("mark")
    return leaked([name for name, value in os.environ.items() if mark in value or mark in name], "variable")


@probe
def data_directory_in_mountinfo():
    """Where the data directory lies is the host's business."""
    home = fact("home")
    with open("/proc/self/mountinfo") as file:
        return leaked([line for line in file if home in line], "line")


@probe
def control_socket():
    import socket

    for name in ("control.sock", "guest.sock", "node.sock"):
        with socket.socket(socket.AF_UNIX) as sock:
            for place in (name, f"{fact('home')}/run/{name}", f"/.cloche/{name}", f"/run/{name}"):
                if sock.connect_ex(place) == 0:
                    return place
    raise Refused("no such socket")


@probe
def memory_of_the_machine():
    if not os.path.exists("/proc/kcore"):
        raise Absent("no kcore")
    return leaked(open("/proc/kcore", "rb").read(64))
